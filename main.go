// Latchkey is the sign-in page for the apps on one's own domain, and the sign-out that really ends
// the session.
package main

import (
	"latchkey/app"
	"latchkey/cli"
)

func main() { cli.Main(app.Options{}) }
