// Everything here is a convenience: every page works without it.

const whoami = "/auth/sessions/whoami";
const newLogoutURL = "/auth/self-service/logout/browser";
const account = "/auth/account";
const signedOut = "/auth/signed-out";
const json = { headers: { Accept: "application/json" }, credentials: "same-origin", cache: "no-store" };

// The id of the session whose page this is; "" for a page that is nobody's.
const session = document.body.dataset.session ?? "";

function hide(hidden) {
	document.documentElement.classList.toggle("leaving", hidden);
}

function leave(to) {
	hide(true);
	location.replace(to);
}

// check leaves the page if its session is over, or another one has taken its place. It returns
// false where it could not find out.
async function check() {
	try {
		const answer = await fetch(whoami, json);
		if (answer.status === 401) {
			leave(signedOut);
		} else if (!answer.ok) {
			return false;
		} else if ((await answer.json()).id === session) {
			hide(false);
		} else {
			leave(account); // never location.reload(): the page may be the answer to a form
		}
		return true;
	} catch {
		return false;
	}
}

// Tabs of one browser tell each other whose page they show. News are only believed to be a reason
// to ask the server; tabs of the same session do not even do that, so that none keeps another busy.
const tabs = new BroadcastChannel("latchkey");

if (session) {
	tabs.addEventListener("message", (event) => {
		if (event.data !== session) check();
	});
	document.addEventListener("visibilitychange", () => {
		if (document.visibilityState === "visible") check();
	});
	// What the back button may bring back unloaded is left hidden, and shown when it is known to
	// be good still.
	addEventListener("pagehide", (event) => {
		if (event.persisted) hide(true);
	});
	addEventListener("pageshow", async (event) => {
		if (event.persisted && !(await check())) leave(account);
	});
}
tabs.postMessage(session);

// A sign-out link signs out by AJAX, with a fresh URL: its own may be that of an older session.
async function signOut(link) {
	link.setAttribute("aria-busy", "true");
	try {
		const fresh = await fetch(newLogoutURL, json);
		if (fresh.ok) {
			// On the host that this page came from, whichever BASE_URL says: its cookie is meant.
			const { pathname, search } = new URL((await fresh.json()).logout_url);
			const done = await fetch(pathname + search, json);
			if (done.status !== 204 && done.status !== 401) throw new Error(`logout answered ${done.status}`);
		} else if (fresh.status !== 401) {
			throw new Error(`logout URL answered ${fresh.status}`);
		}
	} catch {
		link.removeAttribute("aria-busy");
		location.assign(link.href); // the way without JavaScript says what is wrong
		return;
	}
	tabs.postMessage("");
	leave(link.dataset.logout);
}

for (const link of document.querySelectorAll("a[data-logout]")) {
	link.addEventListener("click", (event) => {
		if (event.button !== 0 || event.metaKey || event.ctrlKey || event.shiftKey || event.altKey) return;
		event.preventDefault();
		if (!link.hasAttribute("aria-busy")) signOut(link);
	});
}

for (const button of document.querySelectorAll("button[data-show]")) {
	const input = document.getElementById(button.dataset.show);
	const show = (visible) => {
		input.type = visible ? "text" : "password";
		button.textContent = visible ? "Hide" : "Show";
		button.setAttribute("aria-label", button.getAttribute("aria-label").replace(/^\w+/, button.textContent));
	};
	button.hidden = false;
	button.addEventListener("click", () => show(input.type === "password"));
	// A browser that saves what was typed must see a password field.
	input.form.addEventListener("submit", () => show(false));
}

// Times in the reader's own zone, with the words that the page has without this.
// What a form has done is news once, not at each reload.
if (location.search.startsWith("?done=")) history.replaceState(null, "", location.pathname);

const inWords = new Intl.DateTimeFormat("en-GB", { dateStyle: "long", timeStyle: "short" });
for (const time of document.querySelectorAll("time")) {
	time.textContent = inWords.format(new Date(time.dateTime));
}
