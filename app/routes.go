package app

import (
	"net/http"
	"strings"

	"github.com/gin-contrib/sessions"
	"github.com/gin-gonic/gin"
)

// The paths that other files link to.
const (
	pathLogin        = "/auth/login"
	pathRegistration = "/auth/registration"
	pathAccount      = "/auth/account"
	pathLogout       = "/auth/logout"
	pathSignedOut    = "/auth/signed-out"
	pathStatic       = "/auth/static/*name"
	pathSchema       = "/auth/schemas/default"
	pathSessions     = "/auth/sessions"
	pathScript       = "/auth/session.js"
	pathLogoutAPI    = "/auth/self-service/logout/api"
	pathJWKS         = "/auth/.well-known/jwks.json"
	pathVerify       = "/auth/verify"
)

// routes is every URL of the product, each with its handler beside it.
func (a *App) routes() (*gin.Engine, error) {
	gin.SetMode(gin.ReleaseMode)
	r := gin.New()
	r.HandleMethodNotAllowed = true
	r.RedirectTrailingSlash = false
	r.RemoteIPHeaders = []string{"X-Forwarded-For"} // one header, so that a proxy has one to overwrite
	if err := r.SetTrustedProxies(a.TrustedProxies); err != nil {
		return nil, err
	}
	byCookie := sessions.Sessions(a.cookies.sessionName, &sessionStore{sessions: a.store.Sessions, cookies: a.cookies, traces: a.Traces})
	byHeader := sessions.Sessions(a.cookies.sessionName, &sessionStore{sessions: a.store.Sessions, cookies: a.cookies, traces: a.Traces, headers: true})

	if a.metrics != nil {
		r.Use(a.measured)
	}
	if a.Traces != nil {
		r.Use(a.traced)
	}
	r.Use(a.begin, a.recovered, a.withinLimits, a.knownHost, a.inTime, a.cors("/auth/self-service", pathSessions, pathSchema, "/auth/openapi.json", "/auth/health"))
	r.NoRoute(a.notFound)
	r.NoMethod(a.methodNotAllowed)

	read := func(g *gin.RouterGroup, path string, handler gin.HandlerFunc) {
		g.GET(path, handler)
		g.HEAD(path, handler)
	}

	read(&r.RouterGroup, "/", redirect(pathAccount))
	auth := r.Group("/auth", a.sameSite)

	// Pages. They work without JavaScript.
	pages := auth.Group("", byCookie)
	read(pages, "", redirect(pathAccount))
	read(pages, "/", redirect(pathAccount))
	read(pages, "/login", a.loginPage)
	read(pages, "/registration", a.registrationPage)
	read(pages, "/logout", a.logoutPage)
	read(pages, "/signed-out", a.signedOutPage)
	pages.POST("/signed-out/everywhere", a.endFromReceipt)
	read(pages, "/account", a.accountPage)
	read(pages, "/account/activity", a.activityPage)
	pages.POST("/account/name", a.changeName)
	pages.POST("/account/password", a.changePassword)
	pages.POST("/account/sessions/end", a.endOtherSessionsForm)
	pages.POST("/account/sessions/end/:id", a.endSessionForm)
	pages.POST("/account/sign-out-everywhere", a.logoutEverywhere)

	// What pages and developers read.
	read(auth, "/docs", a.docsPage)
	read(auth, "/openapi.json", a.openAPI)
	read(auth, "/schemas/default", a.identitySchema)
	read(auth, "/session.js", a.sessionScript)
	read(&r.RouterGroup, pathStatic, a.asset)

	// The flows, for pages, apps and API clients alike.
	flows := auth.Group("/self-service", byCookie)
	read(flows, "/login/api", a.createLoginAPI)
	read(flows, "/login/browser", a.createLoginBrowser)
	read(flows, "/login/flows", a.getLogin)
	flows.POST("/login", a.submitLogin)
	read(flows, "/registration/api", a.createRegistrationAPI)
	read(flows, "/registration/browser", a.createRegistrationBrowser)
	read(flows, "/registration/flows", a.getRegistration)
	flows.POST("/registration", a.submitRegistration)
	read(flows, "/logout/browser", a.createLogoutURL)
	flows.GET("/logout", a.logout) // not HEAD: it acts
	flows.DELETE("/logout/api", a.logoutAPI)

	// Who is signed in, for apps and API clients.
	api := auth.Group("/sessions", byHeader)
	read(api, "/whoami", a.whoami)
	read(api, "/events", a.sessionEvents)
	read(api, "", a.listSessions)
	api.DELETE("", a.endOtherSessions)
	api.DELETE("/:id", a.endSession)

	// What apps verify their notices with.
	read(auth, "/.well-known/jwks.json", a.jwks)
	// Who is signed in, for reverse proxies. An Authorization header is meant for the app behind one.
	auth.GET("/verify", byCookie, a.verifyRequest)
	auth.HEAD("/verify", byCookie, a.verifyRequest)

	health := auth.Group("/health")
	read(health, "/alive", a.alive)
	read(health, "/ready", a.ready)
	read(health, "/request", a.seen) // PathSeen

	if a.metrics != nil {
		for _, route := range r.Routes() {
			a.metrics.Route(route.Method, route.Path)
		}
	}
	return r, nil
}

func redirect(to string) gin.HandlerFunc {
	return func(c *gin.Context) { seeOther(c, to) }
}

func (a *App) notFound(c *gin.Context) { a.fail(c, errNotFound) }

// formPages are the pages whose forms are sent to these paths. The answer to a form stays in the
// address bar, and who reloads it there wants the page.
var formPages = map[string]string{
	"/auth/self-service/login":          pathLogin,
	"/auth/self-service/registration":   pathRegistration,
	"/auth/account/name":                pathAccount,
	"/auth/account/password":            pathAccount,
	"/auth/account/sessions/end":        pathAccount,
	"/auth/account/sign-out-everywhere": pathAccount,
	"/auth/signed-out/everywhere":       pathSignedOut,
}

func formPage(path string) string {
	if strings.HasPrefix(path, "/auth/account/sessions/end/") {
		return pathAccount
	}
	return formPages[path]
}

func (a *App) methodNotAllowed(c *gin.Context) {
	if page := formPage(c.Request.URL.Path); page != "" && c.Request.Method == http.MethodGet && prefersHTML(c.Request) {
		if c.Request.URL.RawQuery != "" {
			page += "?" + c.Request.URL.RawQuery // of the flow
		}
		seeOther(c, page)
		return
	}
	a.fail(c, &problem{code: http.StatusMethodNotAllowed,
		reason: c.Request.Method + " is not possible here. Possible are: " + c.Writer.Header().Get("Allow") + "."})
}
