package test

import (
	"encoding/pem"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"latchkey/test/kit"
)

// image is what the last stage of the Containerfile builds, without a container engine.
type image struct {
	root, user string
	env        []string
}

var copied = regexp.MustCompile(`^COPY --from=build (?:--chown=(\d+:\d+) )?(?:--chmod=(\d+) )?(\S+) (\S+)$`)

// newImage puts the files that the Containerfile copies into a directory.
func newImage(t *testing.T) image {
	text, err := os.ReadFile("../Containerfile")
	require.NoError(t, err)
	first, last, ok := strings.Cut(string(text), "FROM scratch\n")
	require.True(t, ok)
	build := regexp.MustCompile(`(?m)^RUN (CGO_ENABLED=0 .*)$`).FindStringSubmatch(first)
	require.NotNil(t, build)
	out := t.TempDir()
	cmd := exec.Command("sh", "-euc", strings.ReplaceAll(build[1], "/out/", out+"/"))
	cmd.Dir = ".."
	output, err := cmd.CombinedOutput()
	require.NoError(t, err, string(output))

	made := image{root: t.TempDir()}
	for line := range strings.Lines(last) {
		line = strings.TrimSpace(line)
		name, value, _ := strings.Cut(line, " ")
		switch name {
		case "COPY":
			part := copied.FindStringSubmatch(line)
			require.NotNil(t, part, line)
			from, to := strings.Replace(part[3], "/out/", out+"/", 1), made.root+part[4]
			if _, err := os.Stat(from); part[3] == certificates && err != nil {
				require.NoError(t, os.WriteFile(out+"/none", nil, 0o600)) // the test brings its own
				from = out + "/none"
			}
			shell(t, "mkdir -p $(dirname $2) && cp -r $1 $2 && chmod ${4:-755} $2 && chown -R ${3:-0:0} $2", from, to, part[1], part[2])
		case "ENV":
			made.env = strings.Fields(value)
		case "USER":
			made.user = value
		}
	}
	require.NoError(t, os.Chmod(made.root, 0o755))
	return made
}

const certificates = "/etc/ssl/certs/ca-certificates.crt"

func shell(t *testing.T, line string, args ...string) {
	t.Helper()
	output, err := exec.Command("sh", append([]string{"-euc", line, "sh"}, args...)...).CombinedOutput()
	require.NoError(t, err, string(output))
}

// command runs the program in the image as an engine would: with the root directory read-only except for the
// volume, as the user of the Containerfile, and without a way to gain privileges.
func (i image) command(env []string, args ...string) *exec.Cmd {
	line := `mount --bind "$1" "$1"; mount --bind "$1/data" "$1/data"; mount -o remount,bind,ro "$1"; root=$1 user=$2; shift 2
		exec setpriv --no-new-privs --bounding-set=-all,+sys_chroot,+setuid,+setgid chroot --userspec="$user" "$root" /latchkey "$@"`
	cmd := exec.Command("unshare", append([]string{"--mount", "sh", "-euc", line, "sh", i.root, i.user}, args...)...)
	cmd.Env = append(append([]string{"PATH=" + os.Getenv("PATH")}, i.env...), env...)
	return cmd
}

func TestTheImageOfTheContainerfileHoldsAllItNeeds(t *testing.T) {
	kit.Need(t, os.Geteuid() == 0, "root, who alone can change the root directory")
	made := newImage(t)
	require.Regexp(t, `^[1-9]\d*:[1-9]\d*$`, made.user, "a number, which is known without a list of users")
	app := httptest.NewTLSServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) {}))
	t.Cleanup(app.Close)
	known := pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: app.Certificate().Raw})
	require.NoError(t, os.WriteFile(made.root+certificates, known, 0o644))
	var files []string
	require.NoError(t, filepath.WalkDir(made.root, func(path string, entry os.DirEntry, err error) error {
		if err == nil && !entry.IsDir() {
			files = append(files, strings.TrimPrefix(path, made.root))
		}
		return err
	}))
	require.Equal(t, []string{certificates, "/latchkey"}, files, "there is no shell, nor anything else to run")

	require.NoError(t, os.WriteFile(made.root+"/etc/hosts", []byte("127.0.0.1 localhost\n"), 0o644)) // every engine adds it
	listen := "LISTEN=127.0.0.1:" + kit.FreePort(t)
	s := kit.StartServer(t, made.command([]string{listen}), "http://"+strings.TrimPrefix(listen, "LISTEN="))
	s.Await("its health check", func() bool { return made.command([]string{listen}, "healthcheck").Run() == nil })

	add := made.command(nil, "user", "add", "ada@example.com")
	add.Stdin = strings.NewReader(kit.GoodPassword + "\n")
	output, err := add.CombinedOutput()
	require.NoError(t, err, string(output))
	require.NotEmpty(t, s.SignIn("ada@example.com"))
	owner, err := exec.Command("stat", "--format=%u:%g %a", made.root+"/data", made.root+"/data/latchkey.db").Output()
	require.NoError(t, err)
	require.Equal(t, made.user+" 700\n"+made.user+" 600\n", string(owner))

	output, err = made.command(nil, "app", "add", "wiki", app.URL).CombinedOutput()
	require.NoError(t, err, string(output))
	output, err = made.command(nil, "app", "test", "wiki").CombinedOutput()
	require.NoError(t, err, "the certificates are where they are looked for: %s", output)

	output, err = made.command([]string{"DATABASE_URL=sqlite:/elsewhere.db"}, "user", "add", "bob@example.com").CombinedOutput()
	require.Error(t, err, "nothing but the volume can be written to: %s", output)
	s.Stop()
}
