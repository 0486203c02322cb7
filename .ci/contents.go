// Contents lists what is linked into a binary of ours, out of what the binary says itself: as a
// CycloneDX document, and as the texts of all licences.
//
//	go run .ci/contents.go BINARY SBOM LICENCES
package main

import (
	"cmp"
	"debug/buildinfo"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"log"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"runtime/debug"
	"slices"
	"strings"
)

func main() {
	log.SetFlags(0)
	if len(os.Args) != 4 {
		log.Fatal("usage: go run .ci/contents.go BINARY SBOM LICENCES")
	}
	if err := run(os.Args[1], os.Args[2], os.Args[3]); err != nil {
		log.Fatal(err)
	}
}

// part is something that is linked in.
type part struct {
	Name, Version, PURL, Sum string
	dir                      string // where its licences are
	licences                 *regexp.Regexp
}

// licenceFile is how modules name the files that have to come along.
var licenceFile = regexp.MustCompile(`(?i)^(licen[sc]e|copying|notice|patents|third[-_]party[-_]notices)([-._].*)?$|^.*[-.]licen[sc]e(\.\w+)?$`)

// ownLicence is the one of a module itself; others are of what it has taken in.
var ownLicence = regexp.MustCompile(`(?i)^(licen[sc]e|copying|\w+\.licen[sc]e)(\.\w+)?$`)

func run(binary, sbom, licences string) error {
	info, err := buildinfo.ReadFile(binary)
	if err != nil {
		return err
	}
	parts, err := partsOf(info)
	if err != nil {
		return err
	}
	var texts strings.Builder
	components := []component{}
	for _, p := range parts {
		ids, err := p.licencesTo(&texts)
		if err != nil {
			return fmt.Errorf("%s %s: %w", p.Name, p.Version, err)
		}
		components = append(components, newComponent("library", p, ids))
	}
	own := part{Name: "latchkey", Version: info.Main.Version}
	own.PURL = purl(own.Name, own.Version)
	document, err := json.MarshalIndent(map[string]any{ // keys in order, no time, no serial number: the same binary has the same
		"$schema":     "http://cyclonedx.org/schema/bom-1.6.schema.json",
		"bomFormat":   "CycloneDX",
		"specVersion": "1.6",
		"version":     1,
		"metadata":    map[string]any{"component": newComponent("application", own, []string{"Apache-2.0"})},
		"components":  components,
	}, "", "  ")
	if err != nil {
		return err
	}
	return errors.Join(os.WriteFile(sbom, append(document, '\n'), 0o644), os.WriteFile(licences, []byte(texts.String()), 0o644))
}

// partsOf returns the modules that are linked in, Go's own library, and what is embedded.
func partsOf(info *debug.BuildInfo) ([]part, error) {
	goroot, err := exec.Command("go", "env", "GOROOT").Output()
	if err != nil {
		return nil, err
	}
	own := func(name string) *regexp.Regexp { return regexp.MustCompile("^" + regexp.QuoteMeta(name) + "$") }
	pico, err := version("static/pico.css", `Pico CSS \S+ v([\d.]+)`)
	if err != nil {
		return nil, err
	}
	words, err := version("app/password/common.LICENSE", `version (\d[\d.]*\d)`)
	if err != nil {
		return nil, err
	}
	parts := []part{
		{Name: "std", Version: info.GoVersion, PURL: "pkg:golang/std@" + strings.TrimPrefix(info.GoVersion, "go"), dir: strings.TrimSpace(string(goroot)), licences: regexp.MustCompile(`^(LICENSE|PATENTS)$`)},
		{Name: "@picocss/pico", Version: pico, PURL: "pkg:npm/%40picocss/pico@" + pico, dir: "static", licences: own("pico.LICENSE")},
		{Name: "@zxcvbn-ts/language-common", Version: words, PURL: "pkg:npm/%40zxcvbn-ts/language-common@" + words, dir: "app/password", licences: own("common.LICENSE")},
	}
	for _, m := range info.Deps {
		if m.Replace != nil && strings.HasPrefix(m.Replace.Path, "./") {
			continue // a few lines of ours in its stead
		}
		if m.Replace != nil {
			m = m.Replace
		}
		raw, err := exec.Command("go", "mod", "download", "-json", m.Path+"@"+m.Version).Output()
		if err != nil {
			return nil, fmt.Errorf("%s: %w", m.Path, err)
		}
		var got struct{ Dir string }
		if err := json.Unmarshal(raw, &got); err != nil {
			return nil, err
		}
		parts = append(parts, part{Name: m.Path, Version: m.Version, PURL: purl(m.Path, m.Version), Sum: m.Sum, dir: got.Dir, licences: licenceFile})
	}
	slices.SortFunc(parts, func(a, b part) int { return cmp.Compare(a.Name, b.Name) })
	return parts, nil
}

// version finds the version of something embedded in a file that names it.
func version(file, pattern string) (string, error) {
	text, err := os.ReadFile(file)
	if err != nil {
		return "", err
	}
	found := regexp.MustCompile(pattern).FindSubmatch(text)
	if found == nil {
		return "", fmt.Errorf("%s does not name its version", file)
	}
	return string(found[1]), nil
}

func purl(module, version string) string {
	return "pkg:golang/" + module + "@" + url.QueryEscape(version)
}

// licencesTo writes all licence texts of a part, and returns the SPDX ids of those at its top.
func (p part) licencesTo(texts *strings.Builder) (ids []string, err error) {
	err = filepath.WalkDir(p.dir, func(path string, entry fs.DirEntry, err error) error {
		below, _ := filepath.Rel(p.dir, path)
		switch {
		case err != nil:
			return err
		case entry.IsDir() && (entry.Name() == "testdata" || below != "." && p.licences != licenceFile):
			return fs.SkipDir
		case entry.IsDir() || !p.licences.MatchString(entry.Name()) || strings.HasSuffix(entry.Name(), ".go"):
			return nil
		}
		text, err := os.ReadFile(path)
		if err != nil {
			return err
		}
		fmt.Fprintf(texts, "%s\n%s %s: %s\n\n%s\n\n", strings.Repeat("=", 72), p.Name, p.Version, filepath.ToSlash(below), strings.TrimSpace(string(text)))
		if ownLicence.MatchString(below) {
			ids = append(ids, spdx(string(text))...)
		}
		return nil
	})
	if err == nil && len(ids) == 0 {
		err = errors.New("no licence that is known here: look at what it asks for before releasing it")
	}
	slices.Sort(ids)
	return slices.Compact(ids), err
}

var spaces = regexp.MustCompile(`\s+`)

// spdx names the licences in a text. None is known that would ask for more than to be passed on.
func spdx(text string) (ids []string) {
	text = spaces.ReplaceAllString(text, " ")
	if strings.Contains(text, "Permission is hereby granted, free of charge") {
		ids = append(ids, "MIT")
	}
	if strings.Contains(text, "Apache License Version 2.0") {
		ids = append(ids, "Apache-2.0")
	}
	if strings.Contains(text, "Permission to use, copy, modify, and") {
		ids = append(ids, "ISC")
	}
	if strings.Contains(text, "Redistribution and use in source and binary forms") {
		id := "BSD-2-Clause"
		if regexp.MustCompile(`(?i)neither the names? of`).MatchString(text) {
			id = "BSD-3-Clause"
		}
		ids = append(ids, id)
	}
	return ids
}

// component is a part as CycloneDX 1.6 writes it.
type component struct {
	Ref        string     `json:"bom-ref"`
	Type       string     `json:"type"`
	Name       string     `json:"name"`
	Version    string     `json:"version"`
	Licences   []licence  `json:"licenses"`
	PURL       string     `json:"purl"`
	Properties []property `json:"properties,omitempty"`
}

type licence struct {
	Licence struct {
		ID string `json:"id"`
	} `json:"license"`
}

type property struct {
	Name  string `json:"name"`
	Value string `json:"value"`
}

func newComponent(kind string, p part, ids []string) component {
	c := component{Ref: p.PURL, Type: kind, Name: p.Name, Version: p.Version, PURL: p.PURL}
	for _, id := range ids {
		var l licence
		l.Licence.ID = id
		c.Licences = append(c.Licences, l)
	}
	if p.Sum != "" {
		c.Properties = []property{{"go.sum", p.Sum}} // a hash of a module's files, which is none of one file
	}
	return c
}
