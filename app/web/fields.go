package web

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

// Fields are the fields of a form or JSON body, by name: "traits.email" is the member email of the
// object traits. A missing field reads as "".
type Fields map[string]string

// ReadFields reads the request's body. Ambiguous input is refused: a field
// given twice, a number for a string, text that isn't UTF-8.
func ReadFields(c *gin.Context) (Fields, error) {
	mediaType, _, err := mime.ParseMediaType(c.GetHeader("Content-Type"))
	if err != nil || mediaType != "application/json" && mediaType != "application/x-www-form-urlencoded" {
		return nil, &Problem{Code: http.StatusUnsupportedMediaType,
			Reason: "Send the body as application/json or application/x-www-form-urlencoded."}
	}
	body, err := io.ReadAll(c.Request.Body)
	if err != nil {
		return nil, unreadable(err)
	}
	var in Fields
	if mediaType == "application/json" {
		in, err = parseJSON(body)
	} else {
		in, err = parseForm(body)
	}
	if err != nil {
		return nil, ErrBadRequest.Because("The body is invalid: %v.", err)
	}
	return in, nil
}

// unreadable returns the error to report for a body that couldn't be read completely.
func unreadable(err error) error {
	var tooLarge *http.MaxBytesError
	if errors.As(err, &tooLarge) {
		return err
	}
	return &Problem{Code: http.StatusBadRequest, Reason: "The body was cut off. Send it again.",
		Visitor: "The connection broke before everything had arrived. Try again."}
}

func parseForm(body []byte) (Fields, error) {
	values, err := url.ParseQuery(string(body))
	if err != nil {
		return nil, errors.New("it isn't a correctly percent-encoded form")
	}
	in := Fields{}
	for name, given := range values {
		if len(given) > 1 {
			return nil, fmt.Errorf("the field %.50q is given more than once", name)
		}
		if !utf8.ValidString(given[0]) {
			return nil, fmt.Errorf("the field %.50q isn't UTF-8", name)
		}
		in[name] = given[0]
	}
	return in, nil
}

func parseJSON(body []byte) (Fields, error) {
	if !utf8.Valid(body) {
		return nil, errors.New("it isn't UTF-8")
	}
	decoder := json.NewDecoder(bytes.NewReader(body))
	in := Fields{}
	if err := in.readObject(decoder, ""); err != nil {
		return nil, err
	}
	if _, err := decoder.Token(); err != io.EOF {
		return nil, errors.New("there is data after the JSON object")
	}
	return in, nil
}

// readObject doesn't use encoding/json's Unmarshal, which silently keeps the last of several members with
// the same name.
func (in Fields) readObject(decoder *json.Decoder, prefix string) error {
	broken := errors.New("it isn't a JSON object")
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
				return fmt.Errorf("the member %.50q has the wrong type", name)
			default:
				in[name] = "" // unchecked, or unknown: clients send more than we read
			}
		}
	}
	if _, err := decoder.Token(); err != nil {
		return broken
	}
	return nil
}

// The known fields, which must have the right type.
var (
	texts = map[string]bool{"method": true, "identifier": true, "password_identifier": true, "password": true, "csrf_token": true,
		"traits.email": true, "traits.username": true, "traits.name": true, "name": true, "username": true, "new_password": true, "session": true, "return_to": true, "proof": true}
	boxes = map[string]bool{"remember": true, "end_others": true} // JSON booleans are accepted too
)
