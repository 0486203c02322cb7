package app

// ReadDocs reports what keeps the readable page from being made of an OpenAPI document.
func ReadDocs(raw []byte) error {
	_, err := readDocs(raw)
	return err
}
