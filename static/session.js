// Latchkey's session.js, for any page on the same site: the page learns within a second that its
// session has ended, whatever ended it. docs/session-js.md says what attributes and events mean.
(() => {
	// An element with the name of one of document's members hides it, as <img name="currentScript"> does,
	// and one with such an id hides what window inherits. Nothing hides what the prototypes have.
	const of = (name) => Reflect.get(Document.prototype, name, document);
	const { addEventListener, dispatchEvent } = EventTarget.prototype;
	const on = (target, type, listener) => addEventListener.call(target, type, listener);

	const { dataset, src } = of("currentScript");
	const url = (path) => new URL(path, "{{base-url}}" || src).href;

	// target returns where an attribute leads. A <base> element doesn't change that, and no URL runs a script.
	function target(attribute) {
		if (!dataset[attribute]) return;
		const { protocol, href } = new URL(dataset[attribute], location.href);
		if (protocol === "https:" || protocol === "http:") return href;
		console.error(`session.js leads to https and http addresses only, not ${protocol}`);
	}
	const signedOutURL = target("signedOutUrl") ?? url("{{signed-out}}");
	const newLoginURL = target("newLoginUrl");

	const shortest = 1000, longest = 60_000; // between two tries, in milliseconds

	// The id of the session whose page this is; "" for a page that is nobody's, undefined until known.
	let session = dataset.session;
	let seen = false; // the server has confirmed it
	let reason = "unknown"; // why it has ended, if the server has said so
	let turn = 0;

	// whoami returns the id of the session that the browser has now, "" if none, and undefined where
	// that can't be found out: trouble with network or server signs nobody out. A page that asks is no use
	// of the session.
	async function whoami() {
		try {
			const answer = await fetch(url("{{whoami}}"), {
				headers: { Accept: "application/json", "X-Latchkey-Passive": "1" }, credentials: "include", cache: "no-store",
			});
			if (answer.status === 401) return "";
			if (answer.ok) return (await answer.json()).id;
		} catch {}
	}

	// check ends the page's part in a session that is over, or that another one has replaced. It
	// returns false where it could not find out.
	async function check() {
		const mine = session;
		const now = mine && (await whoami());
		if (now === undefined) return false;
		if (!mine || mine !== session) return true;
		if (now === mine) {
			seen = true;
			hide(false);
		} else {
			end(now ? "new_login" : reason);
		}
		return true;
	}

	function end(why) {
		// A page that was wrong from the start, even reloaded, comes from a cache. Again won't help.
		const stale = !seen && performance.getEntriesByType("navigation")[0]?.type === "reload";
		release();
		session = "";
		const news = new CustomEvent("latchkey:signed-out", { cancelable: true, detail: { reason: why } });
		if (!dispatchEvent.call(document, news) || "stay" in dataset) {
			hide(false);
		} else if (why !== "new_login") {
			hide(true);
			location.replace(signedOutURL);
		} else if (!stale || newLoginURL) {
			hide(true);
			renew();
		}
	}

	// renew loads the page anew, for whoever is signed in now.
	function renew() {
		if (newLoginURL) location.replace(newLoginURL);
		else location.reload();
	}

	function hide(hidden) {
		if ("hide" in dataset) of("documentElement").style.visibility = hidden ? "hidden" : "";
	}

	// Tabs of one origin tell each other whose page they show, and what the server has said. News are
	// only believed to be a reason to ask the server; tabs of the same session do not even do that, so
	// that none keeps another busy.
	let tabs;

	function talk() {
		tabs = new BroadcastChannel("latchkey");
		tabs.onmessage = ({ data }) => {
			if (data?.ended) heard(data);
			else if (data !== session) check();
		};
	}

	function heard({ ended, why }) {
		if (ended !== session) return;
		reason = why;
		return check();
	}

	// The stream that says when the session ends.
	let source, timer;
	let pause = shortest;

	function connect() {
		disconnect();
		const stream = (source = new EventSource(url("{{events}}"), { withCredentials: true }));
		let since = Infinity;
		stream.addEventListener("session", ({ data }) => {
			since = Date.now();
			if (JSON.parse(data).id === session) seen = true;
			else check();
		});
		stream.addEventListener("ended", async ({ data }) => {
			stream.close();
			const { id, reason: why } = JSON.parse(data);
			tabs.postMessage({ ended: id, why });
			await heard({ ended: id, why });
			again();
		});
		stream.addEventListener("error", async () => {
			// The server has refused it, or can't be reached.
			const refused = stream.readyState === EventSource.CLOSED;
			stream.close();
			if (Date.now() - since > 10 * shortest) pause = shortest;
			if (refused) await check();
			again();
		});
		function again() {
			if (source !== stream) return;
			timer = setTimeout(connect, pause * (1 + Math.random()));
			pause = Math.min(2 * pause, longest);
		}
	}

	function disconnect() {
		clearTimeout(timer);
		source?.close();
		source = undefined;
	}

	// Browsers open six connections to a host at most (HTTP/1.1), so the tabs of an origin share one
	// stream. It is held by the one that was shown or loaded last: others may be asleep. Without locks
	// (plain http), every tab that is shown holds its own.
	let lead; // what holds the lock, or waits for it; aborted to let go
	let leading = false;
	let away = false; // hidden by another page, for the back button; visibilitychange comes after that

	function listen() {
		const shown = of("visibilityState") === "visible";
		if (!session || leading || away) return;
		if (navigator.locks) take(shown);
		else if (shown) connect();
		else disconnect();
	}

	function take(steal) {
		lead?.abort();
		const mine = (lead = new AbortController());
		const { signal } = mine;
		const hold = () => {
			if (signal.aborted) return;
			leading = true;
			connect();
			return new Promise((free) => signal.addEventListener("abort", free));
		};
		navigator.locks.request("latchkey " + url("{{events}}"), steal ? { steal } : { signal }, hold).catch(({ name }) => {
			if (lead !== mine) return;
			leading = false;
			disconnect();
			if (name === "AbortError") take(false); // another tab has taken it
			else connect(); // a frame that may have none
		});
	}

	function release() {
		lead?.abort();
		lead = undefined;
		leading = false;
		disconnect();
	}

	async function begin() {
		const mine = ++turn;
		for (let wait = shortest; session === undefined; wait = Math.min(2 * wait, longest)) {
			const now = await whoami();
			if (mine !== turn) return;
			session = now;
			if (now) seen = true;
			if (now === undefined) await new Promise((later) => setTimeout(later, wait * (1 + Math.random())));
			if (mine !== turn) return;
		}
		tabs.postMessage(session);
		listen();
	}

	on(document, "visibilitychange", () => {
		listen();
		if (of("visibilityState") === "visible") check();
	});
	// A page that has signed somebody in without being loaded anew says so.
	on(document, "latchkey:signed-in", () => {
		release();
		session = undefined;
		reason = "unknown";
		begin();
	});
	// What the back button may bring back as it was lets go of everything, which else would keep the
	// browser from doing so, and is shown again when it is known to be good still.
	on(window, "pagehide", ({ persisted }) => {
		if (persisted && session) hide(true);
		away = true;
		release();
		tabs.close();
	});
	on(window, "pageshow", async ({ persisted }) => {
		if (!persisted) return;
		away = false;
		talk();
		listen();
		if (session === undefined) begin();
		else if (!(await check())) "hide" in dataset ? renew() : hide(false);
	});

	talk();
	begin();
})();
