package app_test

import (
	"fmt"
	"net/http"
	"net/url"
	"regexp"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
	"golang.org/x/net/html"

	"latchkey/app/config"
)

// notForVisitors is what only developers and administrators know: settings, parameters, and how we call things.
var notForVisitors = regexp.MustCompile(`\b[A-Z]+(_[A-Z]+)+\b|\b[a-z]+(_[a-z]+)+\b|refresh=|\b(JSON|CORS|SQL|PostgreSQL|SQLite|UUID|UTF-8|percent-encod\w+|query string|flow)\b`)

// typed is a quote or an apostrophe of a typewriter.
var typed = regexp.MustCompile(`\pL'\pL|"`)

// checkWords returns what a visitor can't understand on a page, or what is not printed as it should be; nil
// if there is nothing. Every page that a test meets is looked at.
func checkWords(status int, page string) error {
	if status != http.StatusMisdirectedRequest { // which speaks to the administrator
		if err := eachText(page, func(text string) error {
			if found := notForVisitors.FindString(text); found != "" {
				return fmt.Errorf("a page tells visitors about %q: %s", found, text)
			}
			return nil
		}); err != nil {
			return err
		}
	}
	return checkQuotes(page)
}

// checkQuotes returns where a page has the quotes of a typewriter; nil if there are none.
func checkQuotes(page string) error {
	return eachText(page, func(text string) error {
		if found := typed.FindString(text); found != "" {
			return fmt.Errorf("a page has the quotes of a typewriter (%s): %s", found, text)
		}
		return nil
	})
}

// eachText calls check for the texts of a page, except for code and what people choose themselves.
func eachText(page string, check func(string) error) error {
	tokens, skip := html.NewTokenizer(strings.NewReader(page)), ""
	for {
		switch tokens.Next() {
		case html.ErrorToken:
			return nil
		case html.StartTagToken:
			name, _ := tokens.TagName()
			switch string(name) {
			case "script", "code", "bdi":
				skip = string(name)
			}
		case html.EndTagToken:
			if name, _ := tokens.TagName(); string(name) == skip {
				skip = ""
			}
		case html.TextToken:
			if skip != "" {
				continue
			}
			if err := check(html.UnescapeString(string(tokens.Text()))); err != nil {
				return err
			}
		}
	}
}

// Developers and administrators read in JSON and the log what to set; visitors read what to do next.
func TestVisitorsReadWordsForVisitors(t *testing.T) {
	site := newSite(t, func(c *config.Config) { c.AllowedReturnURLs = []string{"https://app.example.com"} })
	ada := site.signUp("ada@example.com")
	for _, c := range []struct {
		name   string
		answer func(v *visitor, headers ...header) answer
		title  string
		way    string // what the page's button says
	}{
		{"return_to", func(v *visitor, h ...header) answer {
			return v.get("/auth/login?return_to=https://evil.example/", h...)
		}, "This link doesn’t work", "Sign in"},
		{"return_to twice", func(v *visitor, h ...header) answer {
			return v.get("/auth/login?return_to=/a&return_to=/b", h...)
		}, "This link doesn’t work", "Sign in"},
		{"query", func(v *visitor, h ...header) answer { return v.get("/auth/login?a=%zz", h...) }, "This link or form doesn’t work", "Sign in"},
		{"another site", func(v *visitor, h ...header) answer {
			return v.postForm("/auth/self-service/login", url.Values{}, append(h, with("Sec-Fetch-Site", "cross-site"))...)
		}, "That came from another site", "Back"},
		{"nowhere", func(v *visitor, h ...header) answer { return v.get("/auth/nowhere", h...) }, "Page not found", "Sign in"},
		{"method", func(v *visitor, h ...header) answer { return v.send(http.MethodPut, "/auth/login", "", h...) }, "This link or form doesn’t work", "Sign in"},
		{"type", func(v *visitor, h ...header) answer {
			return v.send(http.MethodPost, "/auth/account/name", "x", append(h, with("Content-Type", "text/plain"), with("Cookie", "latchkey_session="+ada.cookie("latchkey_session")))...)
		}, "This link or form doesn’t work", "Back"},
		{"missing field", func(v *visitor, h ...header) answer {
			return ada.postForm("/auth/account/username", url.Values{}, h...)
		}, "This link or form doesn’t work", "Back"},
		{"closed", func(v *visitor, h ...header) answer { return v.get("/auth/registration", h...) }, "Registration is closed", "Sign in"},
		{"cookies", func(v *visitor, h ...header) answer {
			return v.get("/auth/login", append(h, with("X-Long", strings.Repeat("x", 40<<10)))...)
		}, "Too many cookies", "Sign in"},
		{"when signed in", func(v *visitor, h ...header) answer { return ada.get("/auth/nowhere", h...) }, "Page not found", "Go to your account"},
	} {
		page := c.answer(site.visitor(), asPage)
		require.GreaterOrEqual(t, page.status, 400, c.name)
		require.Contains(t, page.body, "<h1 tabindex=\"-1\" autofocus aria-describedby=\"text\">"+c.title+"</h1>", c.name)
		require.Contains(t, page.body, "<title>"+c.title+" – Latchkey</title>", c.name)
		require.Regexp(t, `<a class="button" href="/auth/[^"]*">`+c.way+`</a>`, page.body, c.name)
		require.Contains(t, page.body, fmt.Sprintf(`Error %d, request <code id="request">%s</code>`, page.status, page.header.Get("X-Request-Id")), c.name)
	}

	refused := site.visitor().get("/auth/login?return_to=https://evil.example/", asJSON)
	require.Contains(t, refused.text("error.reason"), "ALLOWED_RETURN_URLS", "the author of the link is told")
}

func TestWordsThatVisitorsDoNotKnowAreFound(t *testing.T) {
	for page, wrong := range map[string]string{
		"<p>Set ALLOWED_RETURN_URLS.</p>":                 "ALLOWED_RETURN_URLS",
		"<p>return_to is wrong</p>":                       "return_to",
		"<p>It isn&#39;t</p>":                             "'",
		"<p>Say \"yes\"</p>":                              "\"",
		"<p>Set <code>BASE_URL</code> <bdi>a'b</bdi></p>": "",
		"<p>It isn’t “wrong”</p>":                         "",
	} {
		err := checkWords(http.StatusOK, page)
		if wrong == "" {
			require.NoError(t, err, page)
			continue
		}
		require.ErrorContains(t, err, wrong, page)
	}
}
