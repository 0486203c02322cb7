// Package empty_test tests what stands in for modules that nothing here calls: see go.mod.
package empty_test

import (
	"net/http/httptest"
	"testing"

	"github.com/gin-gonic/gin"
	"github.com/gin-gonic/gin/binding"
	"github.com/gin-gonic/gin/render"
	"github.com/stretchr/testify/require"
	"gorm.io/driver/sqlite"
	"gorm.io/gorm"
)

func TestWhatIsLeftOutSaysSo(t *testing.T) {
	for _, format := range []binding.BindingBody{binding.MsgPack, binding.BSON, binding.YAML, binding.TOML} {
		err := format.BindBody([]byte("a"), new(string))
		require.ErrorContains(t, err, "left out of this build", format.Name())
	}
	for _, format := range []render.Render{render.MsgPack{}, render.BSON{}, render.YAML{}, render.TOML{}} {
		err := format.Render(httptest.NewRecorder())
		require.ErrorContains(t, err, "left out of this build", "%T", format)
	}
	require.ErrorContains(t, gin.New().RunQUIC("127.0.0.1:0", "", ""), "left out of this build")

	_, err := gorm.Open(sqlite.Open(":memory:"), &gorm.Config{})
	require.ErrorContains(t, err, `unknown driver "sqlite3"`)
}
