package apidocs

import (
	"encoding/base64"
	"net/http"
	"strings"

	"github.com/gin-gonic/gin"

	"latchkey/app/authn"
	"latchkey/app/route"
	"latchkey/app/web"
	"latchkey/models"
)

// schemaID is the id of the only schema.
const schemaID = "default"

// Schemas answers GET /auth/schemas.
func (h *Handler) Schemas(c *gin.Context) {
	c.Header("Link", "<"+h.Origin(c)+h.Path(route.Schemas)+`>; rel="first"`)
	c.JSON(http.StatusOK, []gin.H{{"id": schemaID, "schema": h.schema(c)}})
}

// Schema answers GET /auth/schemas/default: the traits that an identity has.
func (h *Handler) Schema(c *gin.Context) { c.JSON(http.StatusOK, h.schema(c)) }

// SchemaByID answers GET /auth/schemas/:id. Some clients encode the id as base64url.
func (h *Handler) SchemaByID(c *gin.Context) {
	if id, err := base64.RawURLEncoding.DecodeString(strings.TrimRight(c.Param("id"), "=")); err != nil || string(id) != schemaID {
		h.Fail(c, web.ErrNotFound)
		return
	}
	h.Schema(c)
}

func (h *Handler) schema(c *gin.Context) gin.H {
	return gin.H{
		"$id": h.Origin(c) + h.Path(route.Schema), "$schema": "https://json-schema.org/draft/2020-12/schema", "title": "Person", "type": "object",
		"properties": gin.H{"traits": gin.H{
			"type": "object", "required": []string{"email"}, "additionalProperties": false,
			"properties": gin.H{
				"email":    gin.H{"type": "string", "format": "email", "title": "Email address", "maxLength": authn.MaxEmailBytes},
				"username": gin.H{"type": "string", "title": "Username", "minLength": 2, "maxLength": 64, "pattern": "^[a-z0-9._-]+$"},
				"name":     gin.H{"type": "string", "title": "Name", "maxLength": models.MaxNameRunes},
			},
		}},
	}
}
