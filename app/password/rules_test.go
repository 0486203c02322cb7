package password

import (
	"errors"
	"slices"
	"strings"
	"testing"
	"unicode/utf8"

	"github.com/stretchr/testify/require"
)

func TestGoodPasswordIsTaken(t *testing.T) {
	rules := Rules{MinLength: 10, SiteName: "Hearth"}
	for _, password := range []string{
		"correct horse battery",
		"just words here",
		"kznwprqmtv",
		"tra\x00pdoors", // whatever a password manager makes up
		"密码不应该是很容易猜到",
		"🦉🦉🦉🦉🦉🦉🦉🦉🦉🦉",
		strings.Repeat("long ", 200),
	} {
		require.NoError(t, rules.Check(password, "ada@example.com", "Ada Lovelace"), password)
	}
}

func TestLengthIsCountedInCodePoints(t *testing.T) {
	rules := Rules{MinLength: 12}
	for _, unit := range []string{"q", "ß", "码", "🦉"} {
		require.Equal(t, TooShort, kind(rules.Check(strings.Repeat(unit, 11))), unit)
		require.NoError(t, rules.Check(strings.Repeat(unit, 12)), unit)
	}
	require.EqualError(t, rules.Check("🦉"), "This password has 1 character, but needs at least 12: add more, or use a few words.")
	require.EqualError(t, rules.Check("🦉🦉🦉"), "This password has 3 characters, but needs at least 12: add more, or use a few words.")
}

func TestLengthHasALeast(t *testing.T) {
	for _, rules := range []Rules{{}, {MinLength: 1}, {MinLength: -1}} {
		require.Equal(t, TooShort, kind(rules.Check("")))
		require.Equal(t, TooShort, kind(rules.Check("kzwprqm")))
		require.NoError(t, rules.Check("kzwprqmv"))
	}
}

func TestLengthHasAMostInBytes(t *testing.T) {
	require.NoError(t, Rules{}.Check(strings.Repeat("ß", MaxBytes/2)))
	require.Equal(t, TooLong, kind(Rules{}.Check(strings.Repeat("ß", MaxBytes/2)+"s")))
}

func TestBytesThatAreNoTextAreRefused(t *testing.T) {
	require.Equal(t, NotText, kind(Rules{}.Check("kzwprqm\xff")))
	require.Equal(t, NotText, kind(Rules{}.Check("kzwprqm\xed\xa0\x80")))
}

func TestCommonPasswordsAreRefusedInWhateverCase(t *testing.T) {
	for _, password := range []string{"password", "password1", "Password1", "PASSWORD1", "12345678", "qwertyuiop", "iloveyou", "baseball", "BaseBall"} {
		require.Equal(t, Common, kind(Rules{}.Check(password)), password)
	}
	require.NoError(t, Rules{}.Check("baseball and iloveyou"), "within a passphrase they are fine")
}

func TestPersonalWordsAreRefusedWithinAPassword(t *testing.T) {
	rules := Rules{SiteName: "Home Hearth"}
	personal := []string{"Grace.Hopper@example.com", "Ada Lovelace", ""}
	for _, password := range []string{
		"grace.hopper@example.com", "xxGRACE.HOPPER@EXAMPLE.COMxx",
		"grace.hopper1906", "1906Grace.Hopper",
		"adalovelace", "LOVELACE1815", "ada lovelace",
		"home hearth 1", "HOME HEARTH",
	} {
		require.Equal(t, Personal, kind(rules.Check(password, personal...)), password)
	}
	for _, password := range []string{"ada likes tea", "hopper and grace", "home is a hearth", "example.com is ours"} {
		require.NoError(t, rules.Check(password, personal...), password)
	}
}

func TestShortPersonalWordsRefuseNothing(t *testing.T) {
	rules := Rules{SiteName: "Hut"}
	require.NoError(t, rules.Check("a bob in the hut", "bob@example.com", "Bob Lee", ""))
	require.NoError(t, rules.Check("李小龙喜欢喝茶吗", "", "李小龙"))
	require.Equal(t, Personal, kind(rules.Check("my a@b is short", "a@b")), "a whole address is refused")
	require.Equal(t, Personal, kind(rules.Check("i am bob lee 1", "", "Bob Lee")), "a whole name of 4 or more is, too")
}

func TestReasonsAreSentencesThatGiveNothingAway(t *testing.T) {
	rules := Rules{SiteName: "Hearth"}
	for _, password := range []string{"kzwprq", strings.Repeat("kzwprq", 200), "kzwprqm\xff", "iloveyou", "hearthhearth"} {
		err := rules.Check(password)
		require.Error(t, err)
		require.Regexp(t, `^This password .+[:.] .+\.$`, err.Error())
		require.NotContains(t, strings.ToLower(err.Error()), password)
	}
}

func TestCommonListIsFitToSearch(t *testing.T) {
	list := common()
	require.Len(t, list, 10_000)
	require.True(t, slices.IsSorted(list))
	for _, entry := range list {
		require.Equal(t, strings.ToLower(entry), entry)
		require.GreaterOrEqual(t, utf8.RuneCountInString(entry), LeastLength)
	}
}

func kind(err error) Kind {
	var refused *Refused
	if errors.As(err, &refused) {
		return refused.Kind
	}
	return ""
}
