package app_test

import (
	"bytes"
	"fmt"
	"maps"
	"mime"
	"net/http"
	"os"
	"regexp"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/getkin/kin-openapi/openapi3"
	"github.com/getkin/kin-openapi/openapi3filter"
	"github.com/getkin/kin-openapi/routers"
	"github.com/santhosh-tekuri/jsonschema/v6"
	"github.com/stretchr/testify/require"

	"latchkey/app/route"
)

// specification is the OpenAPI document that every answer of every test is held against.
type specification struct {
	*openapi3.T
	mu      sync.Mutex // of schemas
	schemas *jsonschema.Compiler
}

var specified = sync.OnceValues(func() (*specification, error) {
	raw, err := os.ReadFile("apidocs/openapi.json")
	if err != nil {
		return nil, err
	}
	doc, err := openapi3.NewLoader().LoadFromData(raw)
	if err != nil {
		return nil, err
	}
	tree, err := jsonschema.UnmarshalJSON(bytes.NewReader(raw))
	if err != nil {
		return nil, err
	}
	// Of any version: the request ids of some proxies have none.
	openapi3.DefineStringFormatValidator("uuid", openapi3.NewRegexpFormatValidator(`^[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}$`))
	schemas := jsonschema.NewCompiler()
	schemas.DefaultDraft(jsonschema.Draft2020)
	schemas.AssertFormat()
	return &specification{T: doc, schemas: schemas}, schemas.AddResource("apidocs/openapi.json", tree)
})

// matches holds JSON against the schema at a place in the document, such as
// "#/components/schemas/session".
func (s *specification) matches(place, body string) error {
	value, err := jsonschema.UnmarshalJSON(strings.NewReader(body))
	if err != nil {
		return fmt.Errorf("not JSON: %w", err)
	}
	s.mu.Lock()
	schema, err := s.schemas.Compile("apidocs/openapi.json" + place) // compiles it once
	s.mu.Unlock()
	if err != nil {
		return err
	}
	return schema.Validate(value)
}

// eventSchemas are those of the data of server-sent events.
var eventSchemas = map[string]string{"session": "sessionEvent", "ended": "sessionEndedEvent"}

// matchesEvents holds a stream of server-sent events, or a part of it, against their schemas.
func (s *specification) matchesEvents(stream string) error {
	for _, event := range readEvents(stream) {
		if eventSchemas[event.name] == "" {
			return fmt.Errorf("the event %q is not documented", event.name)
		}
		if err := s.matches("#/components/schemas/"+eventSchemas[event.name], event.data); err != nil {
			return err
		}
	}
	return nil
}

// undocumented are the routes that are nobody's to call but our own pages'.
var undocumented = regexp.MustCompile(`^(/|/(robots\.txt|favicon\.ico|apple-touch-icon\.png)|/\.well-known/(security\.txt|change-password)|/auth/?|/auth/static/.*|/auth/account/(name|username|password|sessions/.*|sign-out-everywhere)|/auth/signed-out/.*)$`)

// anyMethod reports whether a path answers every method as it does GET.
func anyMethod(path string) bool {
	return slices.ContainsFunc(route.All, func(r *route.Route) bool {
		fixed, _, more := strings.Cut(r.Path, "*")
		return r.AnyMethod && (path == "/auth"+r.Path || more && strings.HasPrefix(path, "/auth"+fixed))
	})
}

// conforms returns what the OpenAPI document does not allow in the answer to a request; nil if it
// allows all of it.
func conforms(req *http.Request, status int, header http.Header, body string) error {
	spec, err := specified()
	if err != nil {
		return err
	}
	method, hasBody := req.Method, true
	if method == http.MethodHead {
		method, hasBody = http.MethodGet, false // RFC 9110 §9.3.2
	}
	if anyMethod(req.URL.Path) {
		if method == http.MethodOptions && status == http.StatusNoContent {
			return nil // to a preflight
		}
		method = http.MethodGet
	}
	mediaType, _, _ := mime.ParseMediaType(header.Get("Content-Type"))
	path, operation := spec.operation(method, req.URL.Path)
	switch {
	case method == http.MethodOptions && status == http.StatusNoContent: // a CORS preflight
		return nil
	case operation == nil || status == http.StatusMethodNotAllowed:
		// No operation of the document, but an error like all others.
		switch {
		case !hasBody || status == http.StatusSeeOther && body == "" || mediaType == "text/html" || undocumented.MatchString(req.URL.Path) && mediaType != "application/json":
			return nil
		case mediaType == "application/json":
			return spec.matches("#/components/schemas/errorGeneric", body)
		}
		return fmt.Errorf("an answer of type %q, which is neither a page nor JSON", mediaType)
	}

	// Status and headers. The library would check the body as well, but compiles its schema each time.
	options := &openapi3filter.Options{IncludeResponseStatus: true, ExcludeResponseBody: true}
	request := &openapi3filter.RequestValidationInput{Request: &http.Request{Method: method}, Options: options,
		Route: &routers.Route{Spec: spec.T, Path: path, Method: method, Operation: operation}}
	if err := openapi3filter.ValidateResponse(req.Context(), &openapi3filter.ResponseValidationInput{
		RequestValidationInput: request, Status: status, Header: header, Options: options}); err != nil {
		return err
	}
	response := operation.Responses.Status(status)
	if response == nil {
		return fmt.Errorf("the status %d is not documented", status)
	}
	content := response.Value.Content
	switch {
	case !hasBody, status == http.StatusSeeOther: // with a line of HTML for who does not follow it
		return nil
	case len(content) == 0 && body != "":
		return fmt.Errorf("a body where none is documented: %s", body)
	case len(content) == 0, mediaType == "text/html" && content["text/html"] != nil:
		return nil
	case content[mediaType] == nil:
		return fmt.Errorf("an answer of type %q is not documented for %d", mediaType, status)
	case mediaType == "text/event-stream":
		return spec.matchesEvents(body)
	case mediaType != "application/json":
		return nil
	}
	place := response.Ref
	if place == "" {
		place = fmt.Sprintf("#/paths/%s/%s/responses/%d", strings.ReplaceAll(path, "/", "~1"), strings.ToLower(method), status)
	}
	return spec.matches(place+"/content/application~1json/schema", body)
}

// operation finds the operation of a request, and its path as the document writes it.
func (s *specification) operation(method, path string) (string, *openapi3.Operation) {
	if _, rest, found := strings.Cut(path, "/auth/verify/"); found && rest != "" {
		path = "/auth/verify/x" // a slash is part of it
	}
	if item := s.Paths.Value(path); item != nil {
		return path, item.GetOperation(method)
	}
	for template, item := range s.Paths.Map() {
		if slices.EqualFunc(strings.Split(template, "/"), strings.Split(path, "/"), func(part, given string) bool {
			return part == given || strings.HasPrefix(part, "{") && given != ""
		}) {
			return template, item.GetOperation(method)
		}
	}
	return "", nil
}

func TestOpenAPIDocumentIsValid(t *testing.T) {
	doc, err := specified()
	require.NoError(t, err)
	require.Equal(t, "3.1.0", doc.OpenAPI)
	require.NoError(t, doc.Validate(t.Context(), openapi3.EnableExamplesValidation()))
}

func TestOpenAPIDocumentIsServed(t *testing.T) {
	raw, err := os.ReadFile("apidocs/openapi.json")
	require.NoError(t, err)
	for _, as := range []header{asJSON, asPage} {
		res := newSite(t).visitor().get("/auth/openapi.json", as)
		require.Equal(t, http.StatusOK, res.status)
		require.Equal(t, string(raw), res.body)
	}
}

func TestOpenAPIDocumentHasEveryRouteAndNoOther(t *testing.T) {
	doc, err := specified()
	require.NoError(t, err)
	written := map[string]bool{}
	for path, item := range doc.Paths.Map() {
		for method, operation := range item.Operations() {
			written[method+" "+path] = true
			require.NotEmpty(t, operation.OperationID, path)
			require.NotEmpty(t, operation.Summary, path)
		}
	}
	served, heads := map[string]bool{}, map[string]bool{}
	parameter := regexp.MustCompile(`[:*](\w+)`)
	for _, route := range newSite(t).app.Routes() {
		path := parameter.ReplaceAllString(route.Path, "{$1}")
		switch {
		case undocumented.MatchString(path), route.Method != http.MethodGet && route.Method != http.MethodHead && anyMethod(route.Path):
		case route.Method == http.MethodHead:
			heads[path] = true
		default:
			served[route.Method+" "+path] = true
		}
	}
	require.Equal(t, slices.Sorted(maps.Keys(served)), slices.Sorted(maps.Keys(written)))
	for operation := range served {
		path, isGet := strings.CutPrefix(operation, "GET ")
		require.Equal(t, isGet && path != "/auth/self-service/logout", heads[path] && isGet, "HEAD %s", path)
	}
}

func TestEndpointsForProgramsNeverAnswerWithAPage(t *testing.T) {
	ada := newSite(t).signUp("ada@example.com")
	spec, err := specified()
	require.NoError(t, err)
	for path, item := range spec.Paths.Map() {
		for method, operation := range item.Operations() {
			if operation.Responses.Status(http.StatusMisdirectedRequest).Value.Content["text/html"] != nil {
				continue
			}
			path = strings.ReplaceAll(path, "{id}", "d7ef54b1-ec15-46e6-bccb-524b82c035e6")
			for name, res := range map[string]answer{
				"a foreign host":   ada.send(method, path, "", asPage, with("Host", "elsewhere.example")),
				"an overlong URL":  ada.send(method, path+"?"+strings.Repeat("x", 16<<10), "", asPage),
				"a foreign origin": ada.send(method, path, "", asPage, with("Origin", "https://elsewhere.example")),
			} {
				require.NotContains(t, res.header.Get("Content-Type"), "html", "%s %s, %s", method, path, name)
			}
		}
	}
	require.True(t, ada.signedIn())
}

// A check that lets everything pass proves nothing.
func TestConformanceIsReallyChecked(t *testing.T) {
	ada := newSite(t).signUp("ada@example.com")
	req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, ada.site.url+"/auth/sessions/whoami", nil)
	require.NoError(t, err)
	res := ada.get("/auth/sessions/whoami")
	require.NoError(t, conforms(req, res.status, res.header, res.body))
	refused := ada.site.visitor().get("/auth/sessions/whoami")
	require.NoError(t, conforms(req, refused.status, refused.header, refused.body))

	change := func(header http.Header, name, value string) http.Header {
		header = header.Clone()
		header.Set(name, value)
		if value == "" {
			header.Del(name)
		}
		return header
	}
	edit := func(body, old, new string) string {
		require.Contains(t, body, old)
		return strings.Replace(body, old, new, 1)
	}
	for name, wrong := range map[string]answer{
		"a key more":            {status: 200, header: res.header, body: edit(res.body, `{`, `{"extra":1,`)},
		"a key more, deep down": {status: 200, header: res.header, body: edit(res.body, `"traits":{`, `"traits":{"phone":"1",`)},
		"a key less":            {status: 200, header: res.header, body: edit(res.body, `"active":true,`, ``)},
		"another type":          {status: 200, header: res.header, body: edit(res.body, `"active":true`, `"active":"true"`)},
		"a time off UTC":        {status: 200, header: res.header, body: edit(res.body, `Z"`, `+02:00"`)},
		"an id that is none":    {status: 200, header: res.header, body: edit(res.body, `{"id":"`, `{"id":"x`)},
		"not JSON":              {status: 200, header: res.header, body: "ada"},
		"another media type":    {status: 200, header: change(res.header, "Content-Type", "text/plain"), body: res.body},
		"a page":                {status: 401, header: change(refused.header, "Content-Type", "text/html"), body: "<p>no</p>"},
		"another status":        {status: 418, header: refused.header, body: refused.body},
		"a header less":         {status: 200, header: change(res.header, "X-Request-Id", ""), body: res.body},
		"a header gone wrong":   {status: 200, header: change(res.header, "Cache-Control", "public"), body: res.body},
		"an error without code": {status: 401, header: refused.header, body: edit(refused.body, `"code":401,`, ``)},
		"an error of no id":     {status: 401, header: refused.header, body: edit(refused.body, `"session_inactive"`, `"oops"`)},
	} {
		require.Error(t, conforms(req, wrong.status, wrong.header, wrong.body), name)
	}

	nowhere := req.Clone(t.Context())
	nowhere.URL.Path = "/auth/nowhere"
	lost := ada.get("/auth/nowhere", asJSON)
	require.NoError(t, conforms(nowhere, lost.status, lost.header, lost.body))
	require.Error(t, conforms(nowhere, lost.status, lost.header, edit(lost.body, `{`, `{"extra":1,`)), "an unknown path")
	require.Error(t, conforms(nowhere, lost.status, change(lost.header, "Content-Type", "text/plain"), "404"), "a bare line")
}
