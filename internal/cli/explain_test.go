package cli

import (
	"net/http"
	"testing"
)

func TestExplanationIsShownStepByStep(t *testing.T) {
	var asked string
	socket := controlSocket(t, func(w http.ResponseWriter, r *http.Request) {
		asked = r.URL.String()
		_, _ = w.Write([]byte(`{"role":"cpe","client":"192.0.2.7:0","server":"203.0.113.1:443","steps":[{"step":"route","detail":"in by lan"},{"step":"outcome","detail":"pass"}]}`))
	})
	code, out, errs := run("explain", "192.0.2.7", "203.0.113.1:443", "--in", "lan", "--mptcp=false", "--control", socket)
	if want := "/explain?client=192.0.2.7%3A0&in=lan&mptcp=false&server=203.0.113.1%3A443"; asked != want {
		t.Errorf("asked for %s, want %s", asked, want)
	}
	if want := "a SYN from 192.0.2.7 to 203.0.113.1:443, at this CPE now:\n\nroute    in by lan\noutcome  pass\n"; code != 0 || out != want || errs != "" {
		t.Errorf("exit %d, %s, printed %q, want %q", code, errs, out, want)
	}
	if _, _, errs := run("explain", "2001:db8::7", "[2001:db8::1]:443", "--control", socket); asked != "/explain?client=%5B2001%3Adb8%3A%3A7%5D%3A0&server=%5B2001%3Adb8%3A%3A1%5D%3A443" {
		t.Errorf("asked for %s: %s", asked, errs)
	}
}
