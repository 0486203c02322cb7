package app

// HeaderText writes a text for a header, and HostName a host as it is compared.
var (
	HeaderText = headerText
	HostName   = hostName
)

// ReadAccess returns what ACCESS says of who may use the app on a host, or why it is refused.
func ReadAccess(setting string) (allow func(host string, groups ...string) bool, err error) {
	rules, err := parseAccess(setting)
	return func(host string, groups ...string) bool { return rules.allow(host, groups) }, err
}
