package models_test

import (
	"context"
	"strings"
	"testing"
	"unicode"
	"unicode/utf8"

	"github.com/stretchr/testify/require"
	"golang.org/x/text/unicode/norm"

	"latchkey/db"
	"latchkey/models"
)

var realNames = []string{"", "Ada Lovelace", "علی\u200cرضا", "ශ\u0dca\u200dරී", "നന\u0d4d\u200d", "अनिरुद्ध", "Nguyễn Văn Đức", "山田\u3000太郎", "葛\U000e0100城", "Ναταλία", "O’Brien-Smith, Jr.", "José\u00a0María",
	"עברית", "ᠮᠣᠩᠭᠣᠯ", "ᠠ\u180b", "L·L", "𝕬𝖉𝖆", "👩\u200d👩\u200d👧", "👩🏽\u200d⚕\ufe0f", "❤\ufe0f\u200d🔥", "🏳\ufe0f\u200d🌈", "🙂\u200d↔\ufe0f", "🇳🇿", "🏴\U000e0067\U000e0062\U000e0065\U000e006e\U000e0067\U000e007f", "1\ufe0f\u20e3", "☎\ufe0e"}

var badNames = []string{"a\u202eb", "\u202a", "\u202b", "\u202c", "\u202d", "\u2066a", "\u2067a", "\u2068a", "a\u2069", "a\u200e", "\u200fa", "a\u061cb", // bidi controls
	"a\u200bb", "a\u2060b", "\ufeffa", "a\u00adb", "a\u034fb", "\u115f", "\u1160", "\u3164", "\uffa0", "\u17b4", "a\u17b5", "\u2800", "a\ufffc", "a\ufffdb", "a\xffb", "\u180e", // invisible
	"a\u200cb", "a\u200db", "\u200d", "\u200ca", "علی\u200c", "\u200cعلی", "علی\u200c\u200cرضا", "علی\u200c رضا", "👩\u200d", "\u200d👩", "👩\u200d\u200d👧", "👩\u200c👧", "a\ufe0f", "a\u180b", "漢\u180b", "a\U000e0100", "👩\ufe0f\ufe0f",
	"a\U000e0041", "👩\U000e0041", "🏴" + strings.Repeat("\U000e0061", 20), "a\tb", "a\nb", "\x00", "a\u0085b", "a\u2028b", "\ue000", "\U000f0000", strings.Repeat("a", models.MaxNameRunes+1)}

func TestNamesOfAllLanguagesAndNothingInvisible(t *testing.T) {
	for _, name := range realNames {
		require.NoError(t, models.CheckName(models.NormalizeName(name)), "%q", name)
	}
	for _, name := range badNames {
		require.Error(t, models.CheckName(models.NormalizeName(name)), "%q", name)
	}
	require.NoError(t, models.CheckName(strings.Repeat("é", models.MaxNameRunes)))

	w := newWorld(t)
	ada := w.person("ada@example.com")
	require.NoError(t, w.Identities.Rename(t.Context(), ada.ID, " Zoe\u0308\u3000Smith "))
	found, err := w.Identities.ByEmail(t.Context(), "ada@example.com")
	require.NoError(t, err)
	require.Equal(t, "Zoë Smith", found.Name)
}

func FuzzName(f *testing.F) {
	for _, name := range append(realNames, badNames...) {
		f.Add(name)
	}
	f.Fuzz(func(t *testing.T, name string) {
		stored := models.NormalizeName(name)
		require.Equal(t, stored, models.NormalizeName(stored))
		require.True(t, norm.NFC.IsNormalString(stored))
		if models.CheckName(stored) != nil {
			return
		}
		require.True(t, utf8.ValidString(stored))
		require.False(t, strings.ContainsFunc(stored, func(r rune) bool {
			return unicode.Is(unicode.Bidi_Control, r) || unicode.IsControl(r) || unicode.Is(unicode.Pattern_White_Space, r) && r != ' ' || unicode.Is(unicode.Other_Default_Ignorable_Code_Point, r)
		}), "%q", stored)
		require.NotContains(t, stored, "\u200d\u200d")
		require.False(t, strings.HasPrefix(stored, "\u200d") || strings.HasPrefix(stored, "\u200c"))
	})
}

func TestNoTwoAccountsLookAlike(t *testing.T) {
	w := newWorld(t)
	ada := w.person("ada.mill@example.com")
	for _, alike := range []string{"аda.mill@example.com", "ada.mi11@example.com", "ada.rnill@example.com", "ada․mill@example.com", "𝐚da.mill@example.com", "ada.mill@exаmple.com", "ADA.MILL@example.com"} {
		_, _, err := w.Identities.Create(t.Context(), account(alike))
		require.ErrorIs(t, err, models.ErrTaken, alike)
	}
	w.person("ada.miles@example.com")
	w.person("ádá.mill@example.com")

	require.NoError(t, w.Identities.SetUsername(t.Context(), ada.ID, "mill"))
	bob := w.person("bob@example.com")
	for _, alike := range []string{"mill", "mi11", "rnill", "rni1l"} {
		require.ErrorIs(t, w.Identities.SetUsername(t.Context(), bob.ID, alike), models.ErrUsernameTaken, alike)
		eve := account("eve@example.com")
		eve.Username = alike
		_, _, err := w.Identities.Create(t.Context(), eve)
		require.ErrorIs(t, err, models.ErrUsernameTaken, alike)
	}
	require.NoError(t, w.Identities.SetUsername(t.Context(), ada.ID, "mi11"), "it may look like one's own")
	require.NoError(t, w.Identities.SetUsername(t.Context(), ada.ID, ""))
	require.NoError(t, w.Identities.SetUsername(t.Context(), bob.ID, "mill"), "it is free again")
	require.NoError(t, w.Identities.Delete(t.Context(), bob.ID))
	require.NoError(t, w.Identities.Delete(t.Context(), ada.ID))
	eve := account("ada.mi11@example.com")
	eve.Username = "rnill"
	_, _, err := w.Identities.Create(t.Context(), eve)
	require.NoError(t, err)
}

func TestAccountsOfUnknownOriginAreDistrustedByOneWrite(t *testing.T) {
	w := newWorld(t)
	w.person("ada@example.com")
	writes := 0
	w.database.OnWrite(func(context.Context, db.Write) { writes++ })

	for range 3 { // at each start
		require.NoError(t, w.Identities.DistrustUnknown(t.Context()))
	}

	require.Equal(t, 1, writes)
	ada, err := w.Identities.ByEmail(t.Context(), "ada@example.com")
	require.NoError(t, err)
	require.Equal(t, models.GivenByPerson, ada.EmailTrust)
}

func TestOfManyWhoLookAlikeOneIsFirst(t *testing.T) {
	w := newWorld(t)
	spellings := []string{"mill@example.com", "mi1l@example.com", "rnill@example.com", "mіll@example.com"}
	created := 0
	for _, err := range together(len(spellings), func(i int) error {
		_, _, err := w.Identities.Create(t.Context(), account(spellings[i]))
		return err
	}) {
		if err == nil {
			created++
			continue
		}
		require.ErrorIs(t, err, models.ErrTaken)
	}
	require.Equal(t, 1, created)
}
