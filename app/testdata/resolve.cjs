// Every host is this machine: what node needs to be told in tests, unlike browsers.
const dns = require("node:dns");
dns.lookup = (name, options, callback = options) =>
	options.all ? callback(null, [{ address: "127.0.0.1", family: 4 }]) : callback(null, "127.0.0.1", 4);
