package app

import (
	"time"

	"github.com/gin-gonic/gin"

	"latchkey/app/live"
)

// Routes lists every route, so that a test can leave none out.
func (a *App) Routes() gin.RoutesInfo { return a.engine.Routes() }

// Live is the event streams.
func (a *App) Live() *live.Handler { return a.live }

// SetBodyTimeout shortens how long the body of a request may take.
func (a *App) SetBodyTimeout(d time.Duration) { a.site.BodyTimeout = d }
