package app_test

import (
	"fmt"
	"testing"
	"time"

	"github.com/chromedp/chromedp/kb"
	"github.com/stretchr/testify/require"
)

func TestConfirmingAndGoingOn(t *testing.T) {
	for how, prepare := range map[string]func(*tab){"with JavaScript": func(*tab) {}, "without": (*tab).withoutJavaScript} {
		t.Run(how, func(t *testing.T) {
			site := newSite(t)
			site.register("ada@example.com")
			b := site.browser()
			prepare(b)
			b.open("/auth/login")
			b.signIn("ada@example.com", goodPassword)
			b.arrives("ada@example.com")
			phone := site.signIn("ada@example.com")
			site.clock.advance(stale)
			b.open("/auth/account")

			b.click("form[action='/auth/account/sessions/end'] button")

			b.arrives("Confirm that it’s you")
			require.True(t, phone.signedIn())
			b.until(`document.activeElement.id === "password"`) // one types on
			require.Equal(t, "ada@example.com", b.value("[autocomplete=username]", "value"), "for password managers")
			b.write("not the password")
			b.press(kb.Enter)
			b.until(`document.readyState === "complete" && document.querySelector("#password-problem")`)
			require.Equal(t, "That isn’t your password.", b.value("#password-problem", "innerText"))
			b.until(`document.activeElement.id === "password"`)
			b.write(goodPassword)
			b.press(kb.Enter)

			b.arrives("ada@example.com")
			require.Equal(t, "All other sessions have ended.", b.value(".done", "innerText"))
			require.False(t, phone.signedIn())
		})
	}
}

func TestOtherTabGoesOnAfterAConfirmation(t *testing.T) {
	site := newSite(t)
	site.register("ada@example.com")
	b := site.at("ada@example.com")
	phone, laptop := site.signIn("ada@example.com"), site.signIn("ada@example.com")
	other := b.secondTab()
	other.open("/auth/account")
	other.arrives("ada@example.com")
	site.clock.advance(stale)
	b.open("/auth/account")
	b.click(".sessions form button")
	b.arrives("Confirm that it’s you")
	b.fill("#password", goodPassword)
	b.click("form button[type=submit]")
	b.arrives("ada@example.com")
	require.NotEqual(t, phone.signedIn(), laptop.signedIn(), "one of them is ended")

	other.click("form[action='/auth/account/sessions/end'] button")

	other.until(`document.querySelector(".done")?.innerText.startsWith("All")`)
	require.False(t, phone.signedIn() || laptop.signedIn())
	b.click("a[data-logout]")
	b.arrives("You are signed out")
}

func TestConfirmPageThatIsClickedTwice(t *testing.T) {
	for how, prepare := range map[string]func(*tab){"with JavaScript": func(*tab) {}, "without": (*tab).withoutJavaScript} {
		t.Run(how, func(t *testing.T) {
			site := newSite(t)
			site.register("ada@example.com")
			b := site.at("ada@example.com")
			prepare(b)
			phone := site.signIn("ada@example.com")
			site.clock.advance(stale)
			b.open("/auth/account")
			b.click("form[action='/auth/account/sessions/end'] button")
			b.arrives("Confirm that it’s you")
			b.fill("#password", goodPassword)

			b.clickTwice("form button[type=submit]")

			b.arrives("ada@example.com")
			require.False(t, phone.signedIn())
		})
	}
}

// clickTwice clicks as fast as only a page can: Chromium sends the first and drops it for the second.
func (b *tab) clickTwice(selector string) {
	b.t.Helper()
	eval[any](b, fmt.Sprintf(`{ const button = document.querySelector(%q); button.click(); button.click(); null }`, selector))
}

func TestReceiptInABrowser(t *testing.T) {
	for how, prepare := range map[string]func(*tab){"with JavaScript": func(*tab) {}, "without": (*tab).withoutJavaScript} {
		t.Run(how, func(t *testing.T) {
			site := newSite(t)
			site.tell("wiki")
			site.register("ada@example.com")
			b := site.browser()
			prepare(b)
			b.open("/auth/login")
			b.signIn("ada@example.com", goodPassword)
			b.arrives("ada@example.com")
			phone, laptop := site.signIn("ada@example.com"), site.signIn("ada@example.com")

			b.click("a[data-logout]")

			b.arrives("You are signed out")
			text := b.text()
			require.Contains(t, text, "ada@example.com has been signed out of this browser.")
			require.Contains(t, text, "wiki\n")
			require.Contains(t, text, "This account has 2 other sessions.")
			b.click("form button")
			b.until(`document.readyState === "complete" && document.querySelector("[role=status]")?.innerText.includes("2 sessions")`)
			require.Contains(t, b.text(), "The other 2 sessions of this account have been ended too.")
			require.False(t, phone.signedIn() || laptop.signedIn())
			b.open("/auth/account")
			b.arrives("Sign in")
		})
	}
}

func TestBackButtonShowsNothingOfAnothersReceipt(t *testing.T) {
	for how, prepare := range map[string]func(*tab){"with JavaScript": func(*tab) {}, "without": (*tab).withoutJavaScript} {
		t.Run(how, func(t *testing.T) {
			site := newSite(t)
			site.register("ada@example.com")
			site.register("bob@example.com")
			b := site.browser()
			prepare(b)
			b.open("/auth/login")
			b.signIn("ada@example.com", goodPassword)
			b.arrives("ada@example.com")
			b.open(b.value("a[data-logout]", "href"))
			b.arrives("You are signed out")
			require.Contains(t, b.text(), "ada@example.com")
			b.click("a.button")
			b.arrives("Sign in")
			b.signIn("bob@example.com", goodPassword)
			b.arrives("bob@example.com")

			for range 2 {
				b.back()
				b.until(`document.readyState === "complete" && document.querySelector("h1")`)
			}

			b.arrives("Sign out?")
			require.NotContains(t, b.text(), "ada@example.com")
			b.click("a[data-logout]")
			b.until(`document.querySelector("[role=status]")?.innerText.includes("bob@example.com")`)
			require.NotContains(t, b.text(), "ada@example.com")
		})
	}
}

func TestSigningOutEverywhereByTheKeyboardAlone(t *testing.T) {
	site := newSite(t)
	site.register("ada@example.com")
	b := site.browser()
	b.withoutJavaScript()
	b.open("/auth/login")
	b.signIn("ada@example.com", goodPassword)
	b.arrives("ada@example.com")
	phone := site.signIn("ada@example.com")
	site.clock.advance(stale)
	b.open("/auth/account")
	tabTo := func(name string) {
		t.Helper()
		b.press(kb.Tab)
		require.Equal(t, name, eval[string](b, "document.activeElement.innerText || document.activeElement.labels[0].innerText"))
	}
	tabTo("Sign out")
	tabTo("Sign out everywhere")
	b.press(kb.Enter)
	b.arrives("Confirm that it’s you")
	b.until(`document.activeElement.id === "password"`)
	b.write(goodPassword)
	tabTo("Sign out everywhere")
	b.press(" ")

	b.arrives("You are signed out")
	require.Contains(t, b.text(), "The other session of this account has been ended too.")
	require.False(t, phone.signedIn())
	tabTo("Sign in")
}

func TestReceiptOverReloadsAsThePage(t *testing.T) {
	site := newSite(t)
	site.register("ada@example.com")
	b := site.at("ada@example.com")
	phone := site.signIn("ada@example.com")
	b.click("a[data-logout]")
	b.arrives("You are signed out")
	site.clock.advance(5 * time.Minute)

	b.click("form button")

	b.until(`document.readyState === "complete" && document.querySelector("[role=alert]")`)
	require.Contains(t, b.value("[role=alert]", "innerText"), "No sessions were ended.")
	require.True(t, phone.signedIn())
	b.open(eval[string](b, "location.href"))
	b.arrives("You are signed out")
	require.Equal(t, "/auth/signed-out", eval[string](b, "location.pathname"))
}
