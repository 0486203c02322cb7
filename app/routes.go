package app

import (
	"net/http"
	"time"

	"github.com/gin-gonic/gin"

	"latchkey/app/account"
	"latchkey/app/apidocs"
	"latchkey/app/assets"
	"latchkey/app/confirm"
	"latchkey/app/flow"
	"latchkey/app/forwardauth"
	"latchkey/app/keys"
	"latchkey/app/login"
	"latchkey/app/logout"
	"latchkey/app/registration"
	"latchkey/app/route"
	"latchkey/app/sessions"
	"latchkey/app/web"
)

// routes connects the handlers to their routes.
func (a *App) routes(ring *keys.Ring, files *assets.Files) (*gin.Engine, error) {
	var (
		site         = a.site
		flows        = &flow.Flows{Site: site}
		login        = login.New(site, flows, a.authn)
		registration = registration.New(site, flows, a.authn)
		confirm      = confirm.New(site, a.authn, a.store)
		sessions     = sessions.New(site, a.store)
		account      = account.New(site, a.store, a.authn, confirm, sessions)
		logout       = logout.New(site, a.store, confirm)
		verify       = forwardauth.New(site)
		assets       = assets.New(site, files)
	)
	docs, err := apidocs.New(site, files)
	if err != nil {
		return nil, err
	}
	handlers := map[*route.Route]gin.HandlerFunc{
		route.Home: site.Redirect(route.Account), route.HomeSlash: site.Redirect(route.Account),
		route.Login: flows.Page(login, login.Page), route.Registration: flows.Page(registration, registration.Page),
		route.Logout: logout.Page, route.SignedOut: logout.SignedOutPage, route.EndFromReceipt: logout.EndFromReceipt,
		route.Account: account.Page, route.Activity: account.ActivityPage,
		route.ChangeName: account.ChangeName, route.ChangeUsername: account.ChangeUsername, route.ChangePassword: account.ChangePassword,
		route.EndOthersForm: account.EndOthers, route.EndSessionForm: account.EndSession, route.SignOutEverywhere: logout.Everywhere,

		route.Docs: docs.Page, route.OpenAPI: docs.Document, route.Schema: docs.Schema, route.SchemaByID: docs.SchemaByID, route.Schemas: docs.Schemas, route.Version: docs.Version,
		route.SessionScript: assets.SessionScript, route.Static: assets.Static,

		route.Robots: assets.Robots, route.Favicon: assets.Favicon, route.TouchIcon: assets.TouchIcon,
		route.PasswordChange: account.PasswordChange, route.SecurityText: assets.SecurityText,

		route.LoginAPI: flows.Create(login, true), route.LoginBrowser: flows.Create(login, false),
		route.LoginFlow: flows.Get(login), route.SubmitLogin: flows.Submit(login),
		route.RegistrationAPI: flows.Create(registration, true), route.RegistrationBrowser: flows.Create(registration, false),
		route.RegistrationFlow: flows.Get(registration), route.SubmitRegistration: flows.Submit(registration),
		route.FlowError:       site.FlowError,
		route.CreateLogoutURL: logout.CreateURL, route.DoLogout: logout.Do, route.LogoutAPI: logout.API,

		route.Whoami: sessions.Whoami, route.Events: a.live.Events, route.ListSessions: sessions.List,
		route.EndOtherSessions: sessions.EndOthers, route.EndSession: sessions.End,

		route.JWKS: a.jwks(ring), route.Verify: verify.Verify, route.VerifyPath: verify.VerifyPath,
		route.Alive: a.health.Alive, route.Ready: a.health.ReadyHandler, route.HealthRequest: a.health.Request,
	}

	for _, r := range route.Absent {
		handlers[r] = flows.Absent
	}

	var first []gin.HandlerFunc
	if a.metrics != nil {
		first = append(first, a.withMetrics)
	}
	engine := newEngine(site, first...)
	byCookie, byHeader := site.WithSession(false), site.WithSession(true)
	engine.NoRoute(byCookie, site.NotFound)
	engine.NoMethod(byCookie, site.MethodNotAllowed)

	if site.Base != "" { // else it is route.HomeSlash
		engine.GET("/", site.Redirect(route.Account))
		engine.HEAD("/", site.Redirect(route.Account))
	}
	for _, r := range site.Routes() {
		var chain []gin.HandlerFunc
		if !r.AnyMethod {
			chain = append(chain, site.RefuseCrossSite)
		}
		switch {
		case r.Bearer:
			if !r.Flow {
				chain = append(chain, site.AcceptCookieHeader)
			}
			chain = append(chain, byHeader)
		case !r.Public:
			chain = append(chain, byCookie)
		}
		chain = append(chain, handlers[r])
		engine.Match(methodsOf(r), site.Path(r), chain...)
	}
	if a.metrics != nil {
		for _, r := range engine.Routes() {
			a.metrics.Route(r.Method, r.Path)
		}
	}
	return engine, nil
}

// newEngine returns an engine without routes, with what every request goes through, after the handlers of first.
func newEngine(site *web.Site, first ...gin.HandlerFunc) *gin.Engine {
	gin.SetMode(gin.ReleaseMode)
	engine := gin.New()
	engine.HandleMethodNotAllowed = true
	engine.RedirectTrailingSlash = false
	engine.ForwardedByClientIP = false // web.Site.ClientIP knows better
	engine.Use(first...)
	if site.Traces != nil {
		engine.Use(site.WithTrace)
	}
	engine.Use(site.WithRequestLog, site.RecoverPanics, site.LimitSize, site.RequireKnownHost, site.WithTimeout, site.WithOrigin, site.WithCORS())
	return engine
}

// methodsOf returns the methods that a route answers.
func methodsOf(r *route.Route) []string {
	switch {
	case r.AnyMethod:
		return route.Methods
	case r.Method == http.MethodGet && !r.Acts:
		return []string{http.MethodGet, http.MethodHead}
	}
	return []string{r.Method}
}

// jwks answers GET /auth/.well-known/jwks.json: the keys that verify tokens for apps.
func (a *App) jwks(ring *keys.Ring) gin.HandlerFunc {
	return func(c *gin.Context) {
		document, err := ring.JWKS(c.Request.Context())
		if err != nil {
			a.site.Fail(c, err)
			return
		}
		c.Header("Cache-Control", "public, max-age=300") // receivers fetch it again when a token has an unknown kid
		c.Data(http.StatusOK, "application/json; charset=utf-8", document)
	}
}

// withMetrics records the request's status and duration.
func (a *App) withMetrics(c *gin.Context) {
	start := time.Now()
	c.Next()
	a.metrics.Request(c.Request.Method, c.FullPath(), c.Writer.Status(), time.Since(start))
}
