package web

import (
	"mime"
	"net/http"
	"strconv"
	"strings"
)

// PrefersHTML reports whether to respond with a page rather than JSON. Clients without a preference get
// JSON: browsers have one.
func PrefersHTML(r *http.Request) bool {
	if IsJSON(r) {
		return false
	}
	accept := strings.Join(r.Header.Values("Accept"), ",")
	html, json := quality(accept, "text", "html"), quality(accept, "application", "json")
	return html.q > json.q || html.q > 0 && html.q == json.q && html.specific > json.specific
}

// IsJSON reports whether the request's body is JSON.
func IsJSON(r *http.Request) bool {
	mediaType, _, err := mime.ParseMediaType(r.Header.Get("Content-Type"))
	return err == nil && mediaType == "application/json"
}

type preference struct {
	q        float64
	specific int // 2 for the exact type, 1 for type/*, 0 for */*
}

// quality returns an Accept header's preference for a media type: RFC 9110 §12.5.1. The most specific
// matching range decides; malformed ones are ignored.
func quality(accept, mainType, subType string) preference {
	best := preference{specific: -1}
	for part := range strings.SplitSeq(accept, ",") {
		name, params, err := mime.ParseMediaType(part)
		if err != nil {
			continue
		}
		specific := -1
		switch name {
		case mainType + "/" + subType:
			specific = 2
		case mainType + "/*":
			specific = 1
		case "*/*":
			specific = 0
		}
		if specific <= best.specific {
			continue
		}
		q := 1.0
		if raw, ok := params["q"]; ok {
			if q, err = strconv.ParseFloat(raw, 64); err != nil || !(q >= 0 && q <= 1) { // ParseFloat accepts NaN
				continue
			}
		}
		best = preference{q, specific}
	}
	return best
}
