package s3

import (
	"bufio"
	"bytes"
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/xml"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"strings"
	"time"
)

// newTransport makes connections that fail if nothing is sent or received during a timeout.
func newTransport(timeout time.Duration, caFile string) (*http.Transport, error) {
	config := &tls.Config{MinVersion: tls.VersionTLS12}
	if caFile != "" {
		pem, err := os.ReadFile(caFile)
		if err != nil {
			return nil, fmt.Errorf("read the certificates that the store is trusted by: %w", err)
		}
		if config.RootCAs = x509.NewCertPool(); !config.RootCAs.AppendCertsFromPEM(pem) {
			return nil, fmt.Errorf("read the certificates that the store is trusted by: %s has none in PEM", caFile)
		}
	}
	dialer := &net.Dialer{Timeout: min(timeout, 30*time.Second)}
	return &http.Transport{
		Proxy: http.ProxyFromEnvironment,
		DialContext: func(ctx context.Context, network, address string) (net.Conn, error) {
			c, err := dialer.DialContext(ctx, network, address)
			if err != nil {
				return nil, err
			}
			return &conn{c, timeout}, nil
		},
		TLSClientConfig:       config,
		TLSHandshakeTimeout:   timeout,
		MaxIdleConnsPerHost:   16,
		IdleConnTimeout:       timeout,
		ExpectContinueTimeout: timeout,
		DisableCompression:    true,
	}, nil
}

// A conn fails if no byte passes during a timeout. What passes in one direction is progress in the other, too: an answer is awaited
// while a long body is sent.
type conn struct {
	net.Conn
	timeout time.Duration
}

func (c *conn) progress() error { return c.SetDeadline(time.Now().Add(c.timeout)) }

func (c *conn) Read(p []byte) (int, error) {
	if err := c.progress(); err != nil {
		return 0, err
	}
	return c.Conn.Read(p)
}

func (c *conn) Write(p []byte) (int, error) {
	if err := c.progress(); err != nil {
		return 0, err
	}
	return c.Conn.Write(p)
}

// errForeign is an answer that is not that of an S3 store, such as the page of a proxy. It says nothing about the object.
var errForeign = errors.New("the answer is not that of an S3 store")

// answers lets through what an S3 store answers. minio-go takes each 404 and 403 that it cannot parse for the store's, and a page in
// XHTML for an empty listing.
type answers struct{ http.RoundTripper }

// RoundTrip implements [http.RoundTripper].
func (a answers) RoundTrip(req *http.Request) (*http.Response, error) {
	resp, err := a.RoundTripper.RoundTrip(req)
	if err != nil || req.Method == http.MethodHead {
		return resp, err
	}
	foreign := strings.HasPrefix(resp.Header.Get("Content-Type"), "text/html")
	if resp.StatusCode >= 400 && !foreign {
		body, err := io.ReadAll(io.LimitReader(resp.Body, 1<<20))
		resp.Body.Close()
		if err != nil {
			return nil, fmt.Errorf("read the answer %s: %w", resp.Status, err)
		}
		resp.Body = io.NopCloser(bytes.NewReader(body))
		var e struct {
			XMLName xml.Name `xml:"Error"`
			Code    string
		}
		foreign = xml.Unmarshal(body, &e) != nil || e.Code == ""
	}
	if resp.StatusCode == http.StatusOK && req.URL.Query().Has("list-type") {
		body := bufio.NewReader(resp.Body)
		begin, _ := body.Peek(512) // an error is that of the reader as well
		resp.Body = struct {
			io.Reader
			io.Closer
		}{body, resp.Body}
		foreign = foreign || !bytes.Contains(begin, []byte("<ListBucketResult"))
	}
	if foreign {
		resp.Body.Close()
		return nil, fmt.Errorf("%w: %s", errForeign, resp.Status)
	}
	return resp, nil
}
