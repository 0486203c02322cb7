// Package apidocs is the OpenAPI document, for programs and for reading.
package apidocs

import (
	"bytes"
	"cmp"
	"context"
	_ "embed"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"regexp"
	"runtime/debug"
	"slices"
	"strconv"
	"strings"

	"github.com/gin-gonic/gin"

	"latchkey/app/assets"
	"latchkey/app/route"
	"latchkey/app/web"
	"latchkey/views"
)

// written is the document as it is at the default of BASE_PATH.
//
//go:embed openapi.json
var written []byte

// writtenBase is how paths begin in it.
var writtenBase = regexp.MustCompile(`/auth\b/?`)

// at returns the document with the paths as they are below a base.
func at(base route.Base) []byte {
	return writtenBase.ReplaceAllFunc(written, func(found []byte) []byte {
		if base == "" || found[len(found)-1] == '/' {
			return []byte(base.Path(route.HomeSlash))
		}
		return []byte(base)
	})
}

// Handler answers with the document.
type Handler struct {
	*web.Site
	document []byte
	page     assets.File
}

// New returns a Handler, after making the page. Of all pages it alone is compressed: it is long, and
// holds neither a secret nor anything that a request says, which together could be guessed from the
// length (BREACH).
func New(site *web.Site, files *assets.Files) (*Handler, error) {
	document := at(site.Base)
	p, err := readDocs(document, cmp.Or(site.BaseOrigin, "http://localhost:8080"))
	if err != nil {
		return nil, fmt.Errorf("read the OpenAPI document: %w", err)
	}
	p.Page = site.PageData()
	p.Styles = append(slices.Clone(p.Styles), files.DocsStyle())
	p.DocsScript = files.DocsScript()
	var page bytes.Buffer
	if err := views.Docs(p).Render(context.Background(), &page); err != nil {
		return nil, fmt.Errorf("show the OpenAPI document: %w", err)
	}
	file, err := assets.NewFile("text/html; charset=utf-8", page.Bytes())
	return &Handler{site, document, file}, err
}

// Document answers GET /auth/openapi.json.
func (h *Handler) Document(c *gin.Context) {
	c.Data(http.StatusOK, "application/json; charset=utf-8", h.document)
}

// Page answers GET /auth/docs: the same document for reading.
func (h *Handler) Page(c *gin.Context) {
	h.SetPageHeaders(c.Writer.Header())
	h.page.Send(c)
}

// Version answers GET /auth/version.
func (h *Handler) Version(c *gin.Context) {
	version := "(devel)"
	if info, ok := debug.ReadBuildInfo(); ok {
		version = cmp.Or(info.Main.Version, version)
	}
	c.JSON(http.StatusOK, gin.H{"version": version})
}

// apiDocument is what the page shows of an OpenAPI document.
type apiDocument struct {
	Info struct{ Title, Version, Summary, Description string }
	Tags []struct{ Name, Description string }

	Paths      ordered[ordered[apiOperation]] // by path, then by method
	Components struct {
		SecuritySchemes ordered[struct{ Description string }]
		Parameters      ordered[apiField]
		Headers         ordered[apiField]
		Responses       ordered[apiResponse]
		Schemas         ordered[apiSchema]
	}
}

type apiOperation struct {
	OperationID, Summary, Description string

	Tags        []string
	Security    []ordered[any]
	Parameters  []apiField
	RequestBody struct{ Content ordered[apiContent] }
	Responses   ordered[apiResponse] // by status code
}

// apiField is a parameter or a header.
type apiField struct {
	Ref                   string `json:"$ref"`
	Name, In, Description string
	Required              bool
	Schema                apiSchema
}

type apiResponse struct {
	Ref         string `json:"$ref"`
	Description string // beside a reference it stands for that of what is referred to
	Headers     ordered[apiField]
	Content     ordered[apiContent]
}

type apiContent struct{ Schema apiSchema }

type apiSchema struct {
	Ref                 string `json:"$ref"`
	Type                oneOrMore
	Description, Format string
	Const, Default      any
	Example             any
	Enum                []any
	Minimum, Maximum    *int
	MaxLength           *int
	Items               *apiSchema
	OneOf               []apiSchema
	Required            []string
	Properties          ordered[apiSchema]
}

// oneOrMore reads a text or a list of texts.
type oneOrMore []string

func (o *oneOrMore) UnmarshalJSON(raw []byte) error {
	var one string
	if err := json.Unmarshal(raw, &one); err == nil {
		*o = oneOrMore{one}
		return nil
	}
	return json.Unmarshal(raw, (*[]string)(o))
}

// ordered is a JSON object whose members stay in the order in which they were written.
type ordered[T any] []member[T]

type member[T any] struct {
	name  string
	value T
}

func (o *ordered[T]) UnmarshalJSON(raw []byte) error {
	decoder := json.NewDecoder(bytes.NewReader(raw))
	if open, err := decoder.Token(); err != nil || open != json.Delim('{') {
		return errors.Join(err, fmt.Errorf("%.20q is not an object", raw))
	}
	for decoder.More() {
		name, err := decoder.Token()
		if err != nil {
			return err
		}
		m := member[T]{name: fmt.Sprint(name)}
		if err := decoder.Decode(&m.value); err != nil {
			return fmt.Errorf("%s: %w", m.name, err)
		}
		*o = append(*o, m)
	}
	return nil
}

// find returns the component that a reference names.
func find[T any](components ordered[T], ref string) (T, error) {
	name := ref[strings.LastIndex(ref, "/")+1:]
	for _, m := range components {
		if m.name == name {
			return m.value, nil
		}
	}
	var none T
	return none, fmt.Errorf("%s is not there", ref)
}

// Check returns what keeps the page from being made of an OpenAPI document.
func Check(raw []byte) error {
	_, err := readDocs(raw, "")
	return err
}

// readDocs makes the page of an OpenAPI document, with examples for the server at that origin.
func readDocs(raw []byte, origin string) (views.DocsPage, error) {
	var doc apiDocument
	if err := json.Unmarshal(raw, &doc); err != nil {
		return views.DocsPage{}, err
	}
	everywhere := doc.everywhere()
	p := views.DocsPage{Title: doc.Info.Title, Version: doc.Info.Version, Summary: doc.Info.Summary, Text: doc.Info.Description}
	for _, tag := range doc.Tags {
		group := views.DocsGroup{ID: "group-" + strings.ToLower(strings.ReplaceAll(tag.Name, " ", "-")), Name: tag.Name, Text: tag.Description}
		for _, path := range doc.Paths {
			for _, method := range path.value {
				if !slices.Contains(method.value.Tags, tag.Name) {
					continue
				}
				operation, err := doc.operation(method.value, everywhere)
				if err != nil {
					return p, fmt.Errorf("%s %s: %w", method.name, path.name, err)
				}
				operation.Method, operation.Path = strings.ToUpper(method.name), path.name
				if operation.Examples, err = doc.examples(origin, operation.Method, path.name, method.value); err != nil {
					return p, fmt.Errorf("%s %s: %w", method.name, path.name, err)
				}
				group.Operations = append(group.Operations, operation)
			}
		}
		p.Groups = append(p.Groups, group)
	}
	for _, code := range everywhere {
		answer, err := doc.answer(code.name, code.value)
		if err != nil {
			return p, err
		}
		p.Everywhere = append(p.Everywhere, answer)
	}
	for _, scheme := range doc.Components.SecuritySchemes {
		p.Access = append(p.Access, views.DocsTerm{Name: scheme.name, Text: scheme.value.Description})
	}
	for _, header := range doc.Components.Headers {
		p.Headers = append(p.Headers, views.DocsTerm{Name: header.name, Text: header.value.Description})
	}
	for _, schema := range doc.Components.Schemas {
		described := views.DocsSchema{Name: schema.name, Text: schema.value.Description}
		for _, property := range schema.value.Properties {
			described.Fields = append(described.Fields, views.DocsField{Name: property.name, Text: property.value.Description,
				Type: typeOf(property.value), Required: slices.Contains(schema.value.Required, property.name)})
		}
		p.Schemas = append(p.Schemas, described)
	}
	return p, nil
}

// everywhere returns the answers that all operations have and say nothing about, so that the page
// can say it once.
func (d *apiDocument) everywhere() (common ordered[apiResponse]) {
	count, operations := map[string]int{}, 0
	for _, path := range d.Paths {
		for _, method := range path.value {
			operations++
			for _, response := range method.value.Responses {
				if response.value.Ref == "" || response.value.Description != "" {
					continue
				}
				if count[response.name]++; count[response.name] == 1 {
					common = append(common, response)
				}
			}
		}
	}
	common = slices.DeleteFunc(common, func(m member[apiResponse]) bool { return count[m.name] < operations })
	slices.SortFunc(common, func(a, b member[apiResponse]) int { return strings.Compare(a.name, b.name) })
	return common
}

func (d *apiDocument) operation(o apiOperation, everywhere ordered[apiResponse]) (views.DocsOperation, error) {
	shown := views.DocsOperation{ID: o.OperationID, Summary: o.Summary, Text: o.Description}
	for _, alternative := range o.Security {
		for _, scheme := range alternative {
			shown.Access = append(shown.Access, scheme.name)
		}
	}
	for _, parameter := range o.Parameters {
		if parameter.Ref != "" {
			var err error
			if parameter, err = find(d.Components.Parameters, parameter.Ref); err != nil {
				return shown, err
			}
		}
		shown.Parameters = append(shown.Parameters, views.DocsField{Name: parameter.Name, In: parameter.In,
			Text: parameter.Description, Type: typeOf(parameter.Schema), Required: parameter.Required})
	}
	for _, content := range o.RequestBody.Content {
		shown.Body = append(shown.Body, views.DocsContent{MediaType: content.name, Type: typeOf(content.value.Schema)})
	}
	for _, response := range o.Responses {
		if slices.ContainsFunc(everywhere, func(m member[apiResponse]) bool { return m.name == response.name }) {
			continue
		}
		answer, err := d.answer(response.name, response.value)
		if err != nil {
			return shown, err
		}
		shown.Answers = append(shown.Answers, answer)
	}
	return shown, nil
}

// answer shows a response. The headers that every answer has are left out.
func (d *apiDocument) answer(code string, response apiResponse) (views.DocsAnswer, error) {
	if response.Ref != "" {
		component, err := find(d.Components.Responses, response.Ref)
		if err != nil {
			return views.DocsAnswer{}, err
		}
		if response.Description != "" {
			component.Description = response.Description
		}
		response = component
	}
	number, err := strconv.Atoi(code)
	if err != nil {
		return views.DocsAnswer{}, fmt.Errorf("%q is not a status code", code)
	}
	shown := views.DocsAnswer{Code: code, Status: http.StatusText(number), Text: response.Description}
	for _, header := range response.Headers {
		if header.name != "X-Request-Id" && header.name != "Cache-Control" {
			shown.Headers = append(shown.Headers, header.name)
		}
	}
	for _, content := range response.Content {
		what := typeOf(content.value.Schema)
		if content.name == "text/html" {
			what = []views.DocsWord{{Text: "a page"}}
		}
		shown.Contents = append(shown.Contents, views.DocsContent{MediaType: content.name, Type: what})
	}
	return shown, nil
}

// typeOf says in words what a schema allows.
func typeOf(s apiSchema) []views.DocsWord {
	literals := func(values ...any) (words []views.DocsWord) {
		for i, value := range values {
			if i > 0 {
				words = append(words, views.DocsWord{Text: ", "})
			}
			words = append(words, views.DocsWord{Text: fmt.Sprintf("%#v", value), Literal: true})
		}
		return words
	}
	switch {
	case s.Ref != "":
		return []views.DocsWord{{Text: s.Ref[strings.LastIndex(s.Ref, "/")+1:], Schema: true}}
	case len(s.OneOf) > 0:
		words := typeOf(s.OneOf[0])
		for _, other := range s.OneOf[1:] {
			words = append(append(words, views.DocsWord{Text: " or "}), typeOf(other)...)
		}
		return words
	case s.Const != nil:
		return literals(s.Const)
	case len(s.Enum) > 0:
		return literals(s.Enum...)
	case s.Items != nil:
		return append([]views.DocsWord{{Text: "array of "}}, typeOf(*s.Items)...)
	}
	words := strings.Join(s.Type, " or ")
	if s.Format != "" {
		words += ", " + s.Format
	}
	switch {
	case s.Minimum != nil && s.Maximum != nil:
		words += fmt.Sprintf(", %d to %d", *s.Minimum, *s.Maximum)
	case s.Minimum != nil:
		words += fmt.Sprintf(", %d or more", *s.Minimum)
	case s.MaxLength != nil:
		words += fmt.Sprintf(", at most %d characters", *s.MaxLength)
	}
	if s.Default != nil {
		words += fmt.Sprintf(", default %v", s.Default)
	}
	return []views.DocsWord{{Text: words}}
}
