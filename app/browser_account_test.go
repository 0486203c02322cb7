package app_test

import (
	"testing"

	"github.com/chromedp/chromedp/kb"
	"github.com/stretchr/testify/require"
)

func TestPasswordCanBeShownAndIsSentAsOne(t *testing.T) {
	site := newSite(t)
	site.register("ada@example.com")
	b := site.browser()
	b.open("/auth/login")
	b.fill("#identifier", "ada@example.com")
	b.fill("#password", "not the password")

	b.click("button.show")

	require.Equal(t, "text", b.value("#password", "type"))
	require.Equal(t, "Hide password", b.value("button.show", "ariaLabel"))
	require.Equal(t, "not the password", b.value("#password", "value"))
	b.click("button.show")
	require.Equal(t, "password", b.value("#password", "type"))
	require.Equal(t, "Show password", b.value("button.show", "ariaLabel"))

	// What a password manager sees when the form goes off.
	b.click("button.show")
	eval[any](b, `addEventListener("submit", () => { sessionStorage.sentAs = document.querySelector("#password").type }), null`)
	b.click("button[name=method]")
	b.until(`document.querySelector(".alert")`)
	require.Equal(t, "password", eval[string](b, "sessionStorage.sentAs"))
}

func TestChangingTheName(t *testing.T) {
	site := newSite(t)
	site.register("ada@example.com")
	b := site.at("ada@example.com")
	b.click("details:nth-of-type(1) summary")
	b.fill("#name", "Ada Lovelace")

	b.click("form[action$=name] button")

	b.arrives("Ada Lovelace")
	require.Equal(t, "Your name has been changed.", b.value("[role=status]", "innerText"))
}

func TestChangingThePassword(t *testing.T) {
	site := newSite(t)
	site.register("ada@example.com")
	b := site.at("ada@example.com")
	elsewhere := site.signIn("ada@example.com")
	submit := "form[action$=password] button[type=submit]"
	b.open("/auth/account")
	b.click("details:nth-of-type(3) summary")
	b.fill("#password", "not the password")
	b.fill("#new_password", "another good password")

	b.click(submit)

	b.until(`document.querySelector("#password-problem")`)
	require.Equal(t, "That isn’t your current password.", b.value("#password-problem", "innerText"))
	require.Equal(t, "password", eval[string](b, "document.activeElement.id"))
	require.Equal(t, "true", b.value("#password", "ariaInvalid"))

	b.fill("#password", goodPassword)
	b.fill("#new_password", "another good password")
	b.click(submit)

	b.until(`document.querySelector(".done")`)
	require.Contains(t, b.value(".done", "innerText"), "all other sessions have ended")
	require.False(t, elsewhere.signedIn())
	b.click("a[data-logout]")
	b.arrives("You are signed out")
	b.open("/auth/login")
	b.signIn("ada@example.com", "another good password")
	b.arrives("ada@example.com")
}

func TestPasswordFormThatIsClickedTwice(t *testing.T) {
	site := newSite(t)
	site.register("ada@example.com")
	b := site.at("ada@example.com")
	b.open("/auth/account")
	b.click("details:nth-of-type(3) summary")
	b.fill("#password", goodPassword)
	b.fill("#new_password", "another good password")

	eval[any](b, `{ const button = document.querySelector("form[action$=password] button[type=submit]"); button.click(); setTimeout(() => button.click()); null }`)

	b.until(`document.querySelector(".done")`)
	require.Equal(t, 1, b.sent("Document /auth/account/password"))
}

func TestEndingOtherSessionsFromTheAccountPage(t *testing.T) {
	site := newSite(t)
	site.register("ada@example.com")
	b := site.at("ada@example.com")
	phone, laptop, desk := site.signIn("ada@example.com"), site.signIn("ada@example.com"), site.signIn("ada@example.com")
	signedIn := func() (n int) {
		for _, v := range []*visitor{phone, laptop, desk} {
			if v.signedIn() {
				n++
			}
		}
		return n
	}
	b.open("/auth/account")

	b.click(".sessions button")
	b.until(`document.querySelector(".done")`)
	require.Equal(t, 2, signedIn())

	b.click("form[action='/auth/account/sessions/end'] button")
	b.until(`document.querySelector(".done")?.innerText.startsWith("All")`)
	require.Zero(t, signedIn())
	require.Equal(t, "1", b.value(".sessions", "childElementCount"), "this one is left")
}

func TestKeyboardAloneFromSignInToSignOut(t *testing.T) {
	site := newSite(t)
	site.register("ada@example.com")
	b := site.browser()
	focus := func() string {
		return eval[string](b, `document.activeElement.ariaLabel || document.activeElement.labels?.[0]?.innerText || document.activeElement.innerText`)
	}
	tabTo := func(name string) {
		t.Helper()
		b.press(kb.Tab)
		require.Equal(t, name, focus())
	}
	b.open("/auth/login")
	require.Equal(t, "Email address or username", focus())
	b.write("ada@example.com")
	tabTo("Password")
	b.write(goodPassword)
	tabTo("Show password")
	b.press(" ")
	require.Equal(t, goodPassword, b.value("#password", "value"))
	require.Equal(t, "text", b.value("#password", "type"))
	tabTo("Keep me signed in")
	b.press(" ")
	require.Equal(t, "true", b.value("[name=remember]", "checked"))
	tabTo("Sign in")
	b.press(kb.Enter)

	b.arrives("ada@example.com")
	tabTo("Sign out")
	tabTo("Sign out everywhere")
	tabTo("Change name")
	b.press(kb.Enter)
	tabTo("Name (optional)")
	tabTo("Save name")
	tabTo("Change username")
	tabTo("Change password")
	b.press(" ")
	tabTo("Current password")
	b.write(goodPassword)
	tabTo("Show current password")
	tabTo("New password")
	b.write("another good password")
	b.press(kb.Enter)

	b.until(`document.querySelector(".done")`)
	tabTo("Sign out")
	b.press(kb.Enter)
	b.arrives("You are signed out")
	tabTo("Sign in")
}
