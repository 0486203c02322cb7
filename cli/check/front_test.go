package check_test

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"fmt"
	"io"
	"math/big"
	"net"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"net/url"
	"os"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"latchkey/test/kit"
)

// front is a reverse proxy with a certificate before the server of a machine, at its BASE_URL.
type front struct {
	t       *testing.T
	machine *kit.Machine
	roots   string // file with the certificate

	mutex    sync.Mutex
	target   *url.URL
	request  func(*httputil.ProxyRequest)
	response func(http.Header)
	refuse   func(*http.Request) bool
}

// newFront starts a proxy that does what docs/nginx.md says, and sets BASE_URL. Its certificate has to be renewed
// soon.
func newFront(t *testing.T, m *kit.Machine, host string) *front {
	t.Helper()
	f := &front{t: t, machine: m, roots: filepath.Join(m.Dir, "roots.pem"), request: setForwarded}
	proxy := httptest.NewUnstartedServer(f)
	t.Cleanup(proxy.Close)
	certificate := selfSigned(t, host, 5*24*time.Hour+time.Hour)
	proxy.TLS = certificate.config()
	proxy.StartTLS()
	require.NoError(t, os.WriteFile(f.roots, certificate.pem, 0o600))
	address := proxy.Listener.Addr().(*net.TCPAddr)
	m.Env = append(m.Env, fmt.Sprintf("BASE_URL=https://%s:%d", host, address.Port))
	if host != "localhost" {
		m.Env = append(m.Env, "HTTPS_PROXY="+tunnel(t, address.String()))
	}
	return f
}

// trust makes the machine trust the certificate.
func (f *front) trust() { f.machine.Env = append(f.machine.Env, "SSL_CERT_FILE="+f.roots) }

// start starts a server behind the proxy, and returns the setting that says where.
func (f *front) start(settings ...string) (listen string) {
	f.t.Helper()
	port := kit.FreePort(f.t)
	listen = "--listen=localhost:" + port
	cmd := f.machine.Command(append(settings, listen)...)
	require.NoError(f.t, cmd.Start())
	f.t.Cleanup(func() { _ = cmd.Process.Kill(); _ = cmd.Wait() })
	f.mutex.Lock()
	f.target = &url.URL{Scheme: "http", Host: "localhost:" + port}
	f.mutex.Unlock()
	require.Eventually(f.t, func() bool { return f.machine.Run("", "healthcheck", listen).Code == 0 }, kit.Timeout, 50*time.Millisecond)
	return listen
}

// setRequest makes the proxy do something to requests from now on.
func (f *front) setRequest(request func(*httputil.ProxyRequest)) {
	f.mutex.Lock()
	defer f.mutex.Unlock()
	f.request = request
}

// setResponse makes the proxy do something to the headers of responses from now on.
func (f *front) setResponse(response func(http.Header)) {
	f.mutex.Lock()
	defer f.mutex.Unlock()
	f.response = response
}

// setRefuse makes the proxy answer some requests itself, as a firewall does, from now on.
func (f *front) setRefuse(refuse func(*http.Request) bool) {
	f.mutex.Lock()
	defer f.mutex.Unlock()
	f.refuse = refuse
}

func (f *front) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	f.mutex.Lock()
	target, request, response, refuse := f.target, f.request, f.response, f.refuse
	f.mutex.Unlock()
	if refuse != nil && refuse(r) {
		http.Error(w, "blocked", http.StatusNotAcceptable)
		return
	}
	(&httputil.ReverseProxy{Rewrite: func(p *httputil.ProxyRequest) {
		p.SetURL(target)
		p.Out.Host = p.In.Host
		request(p)
	}, ModifyResponse: func(res *http.Response) error {
		if response != nil {
			response(res.Header)
		}
		return nil
	}}).ServeHTTP(w, r)
}

// setForwarded is what a proxy should do to requests.
func setForwarded(p *httputil.ProxyRequest) {
	p.Out.Header.Set("X-Forwarded-For", "127.0.0.1")
	p.Out.Header.Set("X-Forwarded-Proto", "https")
}

// tunnel starts a forward proxy that leads to an address, whichever host it is asked for: names of example.com can't
// be resolved here. It returns its URL.
func tunnel(t *testing.T, to string) string {
	t.Helper()
	proxy := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		server, err := net.Dial("tcp", to)
		if err != nil {
			http.Error(w, err.Error(), http.StatusBadGateway)
			return
		}
		defer server.Close()
		client, _, err := http.NewResponseController(w).Hijack()
		if err != nil {
			return
		}
		defer client.Close()
		_, _ = io.WriteString(client, "HTTP/1.1 200 OK\r\n\r\n")
		go func() { _, _ = io.Copy(server, client) }()
		_, _ = io.Copy(client, server)
	}))
	t.Cleanup(proxy.Close)
	return proxy.URL
}

// certificate is a self-signed certificate for a host.
type certificate struct {
	key *ecdsa.PrivateKey
	der []byte
	pem []byte
}

func selfSigned(t *testing.T, host string, lasts time.Duration) certificate {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	require.NoError(t, err)
	template := &x509.Certificate{SerialNumber: big.NewInt(1), DNSNames: []string{host},
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(lasts),
		BasicConstraintsValid: true, IsCA: true, KeyUsage: x509.KeyUsageDigitalSignature | x509.KeyUsageCertSign}
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	require.NoError(t, err)
	return certificate{key: key, der: der, pem: pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der})}
}

func (c certificate) config() *tls.Config {
	return &tls.Config{Certificates: []tls.Certificate{{Certificate: [][]byte{c.der}, PrivateKey: c.key}}}
}
