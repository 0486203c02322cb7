// An app's server that passes requests on to Latchkey (ORY_SDK_URL) by what Ory makes for Next.js, on a
// free port, which it prints: below /api/.ory by the API route of @ory/integrations, elsewhere by the
// middleware of @ory/nextjs.
const http = require("node:http");
const { NextRequest } = require("next/server");
const { apiResolver } = require("next/dist/server/api-utils/node");
const { createOryMiddleware } = require("@ory/nextjs/middleware");
const integrations = require("@ory/integrations/next-edge");

// What this version of Next.js adds to its own runtime.
Headers.prototype.getAll = function () { return this.getSetCookie(); };

const forwardAdditionalHeaders = ["x-forwarded-for"];
const middleware = createOryMiddleware({ forwardAdditionalHeaders, project: { login_ui_url: "/sign-in" } });
const route = { config: integrations.config, default: integrations.createApiHandler({ forwardAdditionalHeaders }) };

const server = http.createServer(async (req, res) => {
	const url = new URL(req.url, "https://" + req.headers.host); // as behind a proxy with a certificate
	const below = url.pathname.match(/^\/api\/\.ory\/(.*)/);
	if (below) {
		const query = { ...Object.fromEntries(url.searchParams), paths: below[1].split("/") };
		await apiResolver(req, res, query, route, {}, false);
		return;
	}
	const body = req.method === "GET" || req.method === "HEAD" ? undefined : Buffer.concat(await req.toArray());
	const answer = await middleware(new NextRequest(url, { method: req.method, headers: req.headers, body }));
	if (answer.headers.get("x-middleware-next")) {
		res.writeHead(404).end("a page of the app");
		return;
	}
	for (const [name, value] of answer.headers) {
		if (name !== "set-cookie") res.setHeader(name, value);
	}
	res.setHeader("Set-Cookie", answer.headers.getSetCookie());
	res.writeHead(answer.status).end(Buffer.from(await answer.arrayBuffer()));
});
server.listen(0, "127.0.0.1", () => console.log(server.address().port));
