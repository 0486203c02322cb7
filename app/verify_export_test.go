package app

// HeaderText writes a text for a header, and HostName a host as it is compared.
var (
	HeaderText = headerText
	HostName   = hostName
)
