// A front-end that has the official client bundled into it, and puts it in the tests' hands.
import * as client from "@ory/client-fetch";

const latchkey = document.currentScript.dataset.latchkey;
const configuration = new client.Configuration({ basePath: latchkey + "/auth", credentials: "include" });

// The client's own names for what went wrong, each a function that recognises it.
const names = Object.entries(client).filter(([name]) => /^is(?!ResponseError|GenericErrorResponse).*(Error|Session|Disabled|Available|NotAllowed|Mismatch)$/.test(name));

Object.assign(globalThis, {
	latchkey,
	client,
	ory: new client.FrontendApi(configuration),

	// outcome tells as JSON what became of a call.
	async outcome(call) {
		try {
			return JSON.parse(JSON.stringify({ value: (await call()) ?? null }));
		} catch (error) {
			if (!client.isResponseError(error)) return { thrown: error.name };
			const body = await client.toBody(error.response);
			const recognised = names.filter(([, is]) => is(body)).map(([name]) => name);
			const retryAfter = error.response.headers.get("Retry-After") ?? "";
			return { thrown: error.name, status: error.response.status, body, recognised, retryAfter };
		}
	},

	// handled tells what the client's own handler of a flow's errors does about that of a call.
	async handled(call) {
		let does = {};
		const handle = client.handleFlowError({
			onRestartFlow: (id) => { does = { restarts: id ?? "" }; },
			onValidationError: (body) => { does = { shows: body }; },
			onRedirect: (url) => { does = { goes: url }; },
		});
		try {
			await call().catch(handle);
		} catch (error) {
			does = { throws: error.name };
		}
		return does;
	},

	// csrfToken is what a form with that flow sends along.
	csrfToken: (flow) => flow.ui.nodes.find((node) => client.getNodeId(node) === "csrf_token").attributes.value,

	// messages are those of a flow, by the name of their node; "" for the whole form.
	messages(flow) {
		const at = { "": flow.ui.messages ?? [] };
		for (const node of flow.ui.nodes) at[client.getNodeId(node)] = node.messages;
		return Object.fromEntries(Object.entries(at).filter(([, texts]) => texts.length > 0)
			.map(([name, texts]) => [name, texts.map(({ id }) => id)]));
	},
});
