package apidocs

import (
	"encoding/json"
	"fmt"
	"net/url"
	"slices"
	"strings"

	"latchkey/views"
)

// pagesTag is the tag of the operations that are pages: people get there by links.
const pagesTag = "Pages"

// examples returns requests for an operation, for the command line and for a browser's script. origin is where the
// server is. The values in capitals are to be replaced.
func (d *apiDocument) examples(origin, method, path string, o apiOperation) ([]views.DocsExample, error) {
	address, err := d.exampleURL(origin, path, o)
	if err != nil {
		return nil, err
	}
	if slices.Contains(o.Tags, pagesTag) {
		return []views.DocsExample{{Name: "HTML", Code: fmt.Sprintf("<a href=%q>%s</a>", address, o.Summary)}}, nil
	}
	switch kind, err := d.answerType(o); {
	case err != nil:
		return nil, err
	case kind == "text/javascript":
		return []views.DocsExample{{Name: "HTML", Code: fmt.Sprintf("<script async src=%q></script>", address)}}, nil
	case kind == "text/event-stream":
		return []views.DocsExample{
			{Name: "curl", Code: curl("GET", address, []string{"Accept: " + kind}, "", true)},
			{Name: "JavaScript", Code: fmt.Sprintf("const events = new EventSource(%q, { withCredentials: true });", address)},
		}, nil
	}
	body := ""
	for _, content := range o.RequestBody.Content {
		if content.name == "application/json" {
			value, err := d.exampleValue(content.value.Schema)
			if err != nil {
				return nil, err
			}
			body = value
		}
	}
	headers := []string{"Accept: application/json"}
	if body != "" {
		headers = append(headers, "Content-Type: application/json")
	}
	for _, parameter := range o.Parameters {
		if parameter.In == "header" {
			headers = append(headers, parameter.Name+": "+placeholder(parameter.Name))
		}
	}
	return []views.DocsExample{
		{Name: "curl", Code: curl(method, address, headers, body, d.usesCookies(path, o))},
		{Name: "JavaScript", Code: fetch(method, address, headers, body, d.usesCookies(path, o))},
	}, nil
}

// answerType returns the media type of a successful response, or "".
func (d *apiDocument) answerType(o apiOperation) (string, error) {
	for _, response := range o.Responses {
		if !strings.HasPrefix(response.name, "2") {
			continue
		}
		answer := response.value
		if answer.Ref != "" {
			var err error
			if answer, err = find(d.Components.Responses, answer.Ref); err != nil {
				return "", err
			}
		}
		if len(answer.Content) > 0 {
			return answer.Content[0].name, nil
		}
	}
	return "", nil
}

// usesCookies reports whether a browser's cookies matter: the session's or a flow's.
func (d *apiDocument) usesCookies(path string, o apiOperation) bool {
	byCookie := slices.ContainsFunc(o.Security, func(s ordered[any]) bool {
		return slices.ContainsFunc(s, func(m member[any]) bool { return m.name == "cookie" })
	})
	return byCookie || strings.Contains(path, "/self-service/") && !strings.HasSuffix(path, "/api")
}

func curl(method, address string, headers []string, body string, cookies bool) string {
	lines := []string{"curl"}
	if method != "GET" && !(method == "POST" && body != "") {
		lines[0] += " -X " + method
	}
	if cookies {
		lines[0] += " -b cookies.txt -c cookies.txt"
	}
	for _, header := range headers {
		lines = append(lines, "  -H "+inShell(header))
	}
	if body != "" {
		lines = append(lines, "  -d "+inShell(body))
	}
	return strings.Join(append(lines, "  "+inShell(address)), " \\\n")
}

func inShell(text string) string { return "'" + strings.ReplaceAll(text, "'", `'\\''`) + "'" }

func fetch(method, address string, headers []string, body string, cookies bool) string {
	var code strings.Builder
	fmt.Fprintf(&code, "const response = await fetch(%q, {\n", address)
	if method != "GET" {
		fmt.Fprintf(&code, "  method: %q,\n", method)
	}
	var fields []string
	for _, header := range headers {
		name, value, _ := strings.Cut(header, ": ")
		if strings.Contains(name, "-") {
			name = fmt.Sprintf("%q", name)
		}
		fields = append(fields, fmt.Sprintf("%s: %q", name, value))
	}
	fmt.Fprintf(&code, "  headers: { %s },\n", strings.Join(fields, ", "))
	if cookies {
		code.WriteString("  credentials: \"include\",\n")
	}
	if body != "" {
		fmt.Fprintf(&code, "  body: JSON.stringify(%s),\n", body)
	}
	return code.String() + "});"
}

// exampleURL returns the operation's URL with the parameters that it requires.
func (d *apiDocument) exampleURL(origin, path string, o apiOperation) (string, error) {
	query := url.Values{}
	for _, parameter := range o.Parameters {
		if parameter.Ref != "" {
			var err error
			if parameter, err = find(d.Components.Parameters, parameter.Ref); err != nil {
				return "", err
			}
		}
		switch {
		case parameter.In == "path":
			path = strings.ReplaceAll(path, "{"+parameter.Name+"}", placeholder(parameter.Name))
		case parameter.In == "query" && parameter.Required:
			query.Set(parameter.Name, placeholder(parameter.Name))
		}
	}
	if len(query) > 0 {
		path += "?" + query.Encode()
	}
	return origin + path, nil
}

func placeholder(name string) string { return strings.ToUpper(strings.ReplaceAll(name, "-", "_")) }

// exampleValue returns a JSON value of a schema: of an object, the members that it requires.
func (d *apiDocument) exampleValue(schema apiSchema) (string, error) {
	if schema.Ref != "" {
		found, err := find(d.Components.Schemas, schema.Ref)
		if err != nil {
			return "", err
		}
		schema = found
	}
	if schema.Const != nil || schema.Example != nil {
		value := schema.Example
		if schema.Const != nil {
			value = schema.Const
		}
		raw, err := json.Marshal(value)
		return string(raw), err
	}
	var members []string
	for _, property := range schema.Properties {
		if !slices.Contains(schema.Required, property.name) {
			continue
		}
		value, err := d.exampleValue(property.value)
		if err != nil {
			return "", err
		}
		members = append(members, fmt.Sprintf("%q: %s", property.name, value))
	}
	return "{" + strings.Join(members, ", ") + "}", nil
}
