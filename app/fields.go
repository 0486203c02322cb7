package app

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"mime"
	"net/http"
	"net/url"
	"unicode/utf8"

	"github.com/gin-gonic/gin"
)

// fields is what a form or a JSON body says, by name: "traits.email" for the member email of the
// object traits. A name that is not there reads as "".
type fields map[string]string

// readFields reads the request's body. Whatever could be read in two ways is refused: a field
// given twice, a number for a text, text that is not UTF-8.
func readFields(c *gin.Context) (fields, error) {
	mediaType, _, err := mime.ParseMediaType(c.GetHeader("Content-Type"))
	if err != nil || mediaType != "application/json" && mediaType != "application/x-www-form-urlencoded" {
		return nil, &problem{code: http.StatusUnsupportedMediaType,
			reason: "Send the body as application/json or application/x-www-form-urlencoded."}
	}
	body, err := io.ReadAll(c.Request.Body)
	if err != nil {
		return nil, unreadable(err)
	}
	var in fields
	if mediaType == "application/json" {
		in, err = parseJSON(body)
	} else {
		in, err = parseForm(body)
	}
	if err != nil {
		return nil, errBadRequest.because("The body can't be used: %v.", err)
	}
	return in, nil
}

// unreadable says why a body could not be read to its end.
func unreadable(err error) error {
	var tooLarge *http.MaxBytesError
	if errors.As(err, &tooLarge) {
		return err
	}
	return errBadRequest.because("The body could not be read to its end. Send it again.")
}

func parseForm(body []byte) (fields, error) {
	values, err := url.ParseQuery(string(body))
	if err != nil {
		return nil, errors.New("it is not a correctly percent-encoded form")
	}
	in := fields{}
	for name, given := range values {
		if len(given) > 1 {
			return nil, fmt.Errorf("the field %.50q is given more than once", name)
		}
		if !utf8.ValidString(given[0]) {
			return nil, fmt.Errorf("the field %.50q is not in UTF-8", name)
		}
		in[name] = given[0]
	}
	return in, nil
}

func parseJSON(body []byte) (fields, error) {
	if !utf8.Valid(body) {
		return nil, errors.New("it is not in UTF-8")
	}
	decoder := json.NewDecoder(bytes.NewReader(body))
	in := fields{}
	if err := in.readObject(decoder, ""); err != nil {
		return nil, err
	}
	if _, err := decoder.Token(); err != io.EOF {
		return nil, errors.New("there is something after the JSON object")
	}
	return in, nil
}

// readObject reads by hand, since encoding/json lets the last of several members of a name win.
func (in fields) readObject(decoder *json.Decoder, prefix string) error {
	broken := errors.New("it is not a JSON object")
	if open, err := decoder.Token(); err != nil || open != json.Delim('{') {
		return broken
	}
	for decoder.More() {
		token, err := decoder.Token()
		name, ok := token.(string)
		if err != nil || !ok {
			return broken
		}
		name = prefix + name
		if _, twice := in[name]; twice {
			return fmt.Errorf("the member %.50q is given more than once", name)
		}
		if name == "traits" {
			in[name] = ""
			if err := in.readObject(decoder, "traits."); err != nil {
				return fmt.Errorf("traits: %w", err)
			}
			continue
		}
		var value any
		if err := decoder.Decode(&value); err != nil {
			return broken
		}
		switch value := value.(type) {
		case string:
			in[name] = value
		case nil:
			in[name] = ""
		default:
			checked, isBool := value.(bool)
			switch {
			case checked && boxes[name]:
				in[name] = "true"
			case texts[name] || boxes[name] && !isBool:
				return fmt.Errorf("the member %.50q is of the wrong type", name)
			default:
				in[name] = "" // unticked, or none of ours: clients send more than we read
			}
		}
	}
	if _, err := decoder.Token(); err != nil {
		return broken
	}
	return nil
}

// The fields of the forms, which must be of the right type.
var (
	texts = map[string]bool{"method": true, "identifier": true, "password": true, "csrf_token": true,
		"traits.email": true, "traits.name": true, "name": true, "new_password": true, "session": true, "return_to": true, "proof": true}
	boxes = map[string]bool{"remember": true, "end_others": true} // true and false, too
)
