package app_test

import (
	"testing"

	"github.com/chromedp/chromedp/kb"
	"github.com/stretchr/testify/require"

	"latchkey/app/config"
)

func TestErrorPageIsReadFromItsHeading(t *testing.T) {
	t.Parallel()
	site := newSite(t)
	b := site.browser()
	b.open("/auth/nowhere")
	b.until(`document.activeElement.matches("h1")`)
	b.click("button[data-copy]")
	b.until(`document.querySelector("button[data-copy]").textContent === "Copied"`)
	require.Equal(t, "en", b.value("html", "lang"))

	b.withoutJavaScript()
	b.open("/auth/nowhere")
	require.Equal(t, "all", eval[string](b, `getComputedStyle(document.querySelector("#request")).userSelect`), "one click selects it")
}

func TestCaretIsAfterWhatWasTyped(t *testing.T) {
	t.Parallel()
	site := newSite(t, open)
	b := site.browser()
	b.open("/auth/registration")
	b.fill("[name='traits.email']", "ada@")
	b.fill("#password", goodPassword)
	b.click("button[name=method]")
	b.until(`document.querySelector(".problem") && document.activeElement.name === "traits.email"`)
	b.write("example.com")
	require.Equal(t, "ada@example.com", b.value("[name='traits.email']", "value"))
}

func TestSignInPageSaysWhomToAskForANewPassword(t *testing.T) {
	t.Parallel()
	site := newSite(t, func(c *config.Config) { c.OperatorContact = "help@example.com" })
	b := site.browser()
	b.open("/auth/login")
	require.NotContains(t, b.text(), "help@example.com")
	b.click("details.forgotten > summary")
	require.Contains(t, b.text(), "Ask your administrator for a new one: help@example.com")
	b.press(kb.Enter)
	require.NotContains(t, b.text(), "help@example.com")
}

func TestPasswordManagersGetToTheForm(t *testing.T) {
	t.Parallel()
	site := newSite(t)
	site.register("ada@example.com")
	b := site.browser()
	b.open("/.well-known/change-password")
	b.arrives("Sign in")
	b.signIn("ada@example.com", goodPassword)
	b.arrives("ada@example.com")
	b.until(`document.activeElement.name === "password" && document.activeElement.checkVisibility()`)
}
