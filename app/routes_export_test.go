package app

import "github.com/gin-gonic/gin"

// Routes lists every route, so that a test can leave none out.
func (a *App) Routes() gin.RoutesInfo { return a.engine.Routes() }
