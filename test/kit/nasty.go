package kit

import (
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

// NastyPasswords have characters that have a meaning in URLs, shells or formats.
var NastyPasswords = []string{
	"zqxj/vkwy?zjqk", "zqxj?vkwy", "zqxj/vkwy", "/zqxjvkwy", "zqxj@vkwy", "zqxj@vkwy/zjqk?vwxq", "zqxj#vkwy", "zqxj:vkwy", "zqxj%vkwy", "zqxj%zzvkwy",
	"zqxj%41vkwy", "zqxj vkwy", "zqxj[vkwy]", "zqxj]vkwy", "zqxj&vkwy=zjqk", "zqxj;vkwy", "zqxj\\vkwy", "zqxj\"vkwy", "zqxj'vkwy", "zqxj`vkwy", "zqxj`: vkwy",
	"zqxj\x01vkwy", "zqxj\nvkwy", "zqxj,vkwy", "zqxj+vkwy", "zqxj{vkwy}", "zqxj$vkwy", "zqxj<vkwy>", "zqxj|vkwy^", "1234/zqxjvkwy", "1234?zqxjvkwy", "zqxj://vkwy", "zqxjüvkwy",
}

// RequireNothingNasty fails the test if a text has a part of one of the NastyPasswords.
func RequireNothingNasty(t testing.TB, text string) {
	t.Helper()
	for _, part := range []string{"zqxj", "vkwy", "zjqk", "vwxq"} {
		require.False(t, strings.Contains(text, part), "%q in %s", part, text)
	}
}
