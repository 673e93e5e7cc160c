// Go's golang.org/x/oauth2/clientcredentials: a bound token, and a call with it.
package main

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"net/http"
	"net/url"
	"os"
	"os/exec"
	"strings"

	"golang.org/x/oauth2"
	"golang.org/x/oauth2/clientcredentials"
)

var env = os.Getenv

func main() {
	mutual := client(env("CERTBIND_CERT"), env("CERTBIND_KEY"))
	ctx := context.WithValue(context.Background(), oauth2.HTTPClient, mutual)
	config := clientcredentials.Config{
		ClientID:       env("CERTBIND_CLIENT_ID"),
		TokenURL:       env("TOKEN_ENDPOINT"),
		Scopes:         []string{"payments:read"},
		AuthStyle:      oauth2.AuthStyleInParams,
		EndpointParams: proof(),
	}
	if env("AUTH_STYLE") == "auto-detect" {
		config.AuthStyle = oauth2.AuthStyleAutoDetect
	}
	token, err := config.Token(ctx)
	check(err)
	answer, err := oauth2.NewClient(ctx, oauth2.StaticTokenSource(token)).Get(env("API"))
	check(err)

	thief := context.WithValue(ctx, oauth2.HTTPClient, client(env("THIEF_CERT"), env("THIEF_KEY")))
	stolen, err := oauth2.NewClient(thief, oauth2.StaticTokenSource(token)).Get(env("API"))
	check(err)
	fmt.Printf("{\"token_endpoint\":%q,\"token\":%q,\"api\":%d,\"thief\":%d}\n",
		config.TokenURL, token.AccessToken, answer.StatusCode, stolen.StatusCode)
}

// client shows this certificate to servers of the one CA.
func client(cert, key string) *http.Client {
	pair, err := tls.LoadX509KeyPair(cert, key)
	check(err)
	ca, err := os.ReadFile(env("CERTBIND_CA"))
	check(err)
	roots := x509.NewCertPool()
	roots.AppendCertsFromPEM(ca)
	settings := &tls.Config{Certificates: []tls.Certificate{pair}, RootCAs: roots}
	return &http.Client{Transport: &http.Transport{TLSClientConfig: settings}}
}

// proof is an assertion that `certbind token` signs; each is good once, so a Config is good for one token.
func proof() url.Values {
	if env("ASSERTION_KEY") == "" {
		return nil
	}
	sign := exec.Command(env("CERTBIND"), "token", "--assertion-only",
		"--assertion-key", env("ASSERTION_KEY"), "--alg", env("ASSERTION_ALG"))
	assertion, err := sign.Output()
	check(err)
	return url.Values{
		"client_assertion_type": {"urn:ietf:params:oauth:client-assertion-type:jwt-bearer"},
		"client_assertion":      {strings.TrimSpace(string(assertion))},
	}
}

func check(err error) {
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}
