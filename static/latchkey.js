// Everything here is a convenience: every page works without it.

const newLogoutURL = "{{create-logout-url}}";
const json = { headers: { Accept: "application/json" }, credentials: "same-origin", cache: "no-store" };

// leave has this page decide where to go from here: session.js, which hears of the session's end at
// the same time, would cut off an answer that is on its way.
function leave() {
	const here = new AbortController();
	document.addEventListener("latchkey:signed-out", (event) => event.preventDefault(), { signal: here.signal });
	addEventListener("pagehide", () => here.abort(), { once: true }); // the back button may bring it back
}

// Of a form that is sent twice, as by a double click, the browser drops the first answer, and with it
// a new session's token.
const resendAfter = 5000; // milliseconds; then somebody may have stopped the first
let sentAt = -Infinity;
addEventListener("pagehide", () => { sentAt = -Infinity; });
document.addEventListener("submit", (event) => {
	if (event.timeStamp - sentAt < resendAfter) {
		event.preventDefault();
		return;
	}
	sentAt = event.timeStamp;
	leave();
});

// What follows the # of an address reaches no server, but a browser keeps it over redirects. With it, the
// way on from a sign-in page ends where the person wanted to go.
for (const way of document.querySelectorAll("form[data-onward]")) way.action += location.hash;
for (const way of document.querySelectorAll("a[data-onward]")) way.href += location.hash;

// A sign-in page goes on when another tab has signed in.
if (document.querySelector("form[data-join]")) {
	const tabs = new BroadcastChannel("latchkey sign-in");
	const join = async () => {
		try {
			const answer = await fetch("{{whoami}}", json);
			const sending = performance.now() - sentAt < resendAfter;
			if (answer.ok && !sending) location.reload(); // the server leads on from here
		} catch {} // it can't be reached
	};
	document.addEventListener("submit", () => tabs.postMessage("sent"));
	tabs.addEventListener("message", () => {
		for (const wait of [500, 1000, 2000, 4000, 8000]) setTimeout(join, wait);
	});
	document.addEventListener("visibilitychange", () => {
		if (document.visibilityState === "visible") join();
	});
	addEventListener("pageshow", ({ persisted }) => {
		if (persisted) join();
	});
}

// Whoever corrects what they typed wants to go on at its end.
const focused = document.querySelector("input[autofocus]");
if (focused?.selectionEnd === 0) focused.setSelectionRange(focused.value.length, focused.value.length);

// A sign-out link signs out by AJAX, with a fresh URL: its own may be that of an older session.
async function signOut(link) {
	link.setAttribute("aria-busy", "true");
	leave();
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
	document.documentElement.style.visibility = "hidden";
	location.replace(link.dataset.logout);
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

for (const button of document.querySelectorAll("button[data-copy]")) {
	button.hidden = !navigator.clipboard; // only where the page came by https, or from this machine
	button.addEventListener("click", async () => {
		await navigator.clipboard.writeText(document.getElementById(button.dataset.copy).textContent);
		button.textContent = "Copied";
	});
}

// What a form has done is news once, not at each reload.
if (location.search.startsWith("?done=")) history.replaceState(null, "", location.pathname);

// Times in the reader's own zone, with the words that the page has without this.
const inWords = new Intl.DateTimeFormat("en-GB", { dateStyle: "long", timeStyle: "short" });
for (const time of document.querySelectorAll("time")) {
	time.textContent = inWords.format(new Date(time.dateTime));
}
