package main

import (
	"strings"
	"testing"
)

func TestSummaryPrintsFailuresAndSkipsOnly(t *testing.T) {
	for _, c := range []struct {
		name, in, want string
		failed         bool
	}{
		{"a package that passes", `
{"Action":"start","Package":"m/a"}
{"Action":"output","Package":"m/a","Test":"TestA","Output":"=== RUN   TestA\n"}
{"Action":"output","Package":"m/a","Test":"TestA","Output":"    a_test.go:1: by the way\n"}
{"Action":"output","Package":"m/a","Test":"TestA","Output":"--- PASS: TestA (0.00s)\n"}
{"Action":"pass","Package":"m/a","Test":"TestA"}
{"Action":"output","Package":"m/a","Output":"PASS\n"}
{"Action":"output","Package":"m/a","Output":"ok  \tm/a\t0.1s\n"}
{"Action":"pass","Package":"m/a"}`, "ok  \tm/a\t0.1s\n", false},
		{"a package without tests", `
{"Action":"output","Package":"m","Output":"?   \tm\t[no test files]\n"}
{"Action":"skip","Package":"m"}`, "?   \tm\t[no test files]\n", false},
		{"a test that is skipped", `
{"Action":"output","Package":"m/a","Test":"TestA/b","Output":"    a_test.go:9: could not check it: x not installed\n"}
{"Action":"output","Package":"m/a","Test":"TestA/b","Output":"    --- SKIP: TestA/b (0.00s)\n"}
{"Action":"skip","Package":"m/a","Test":"TestA/b"}
{"Action":"output","Package":"m/a","Output":"ok  \tm/a\t0.1s\n"}
{"Action":"pass","Package":"m/a"}`, "ok  \tm/a\t0.1s\n\nskipped:\n  a TestA/b: could not check it: x not installed\n", false},
		{"a test that fails", `
{"Action":"output","Package":"m/a","Test":"TestA","Output":"=== RUN   TestA\n"}
{"Action":"output","Package":"m/a","Test":"TestA","Output":"    a_test.go:1: wrong\n"}
{"Action":"output","Package":"m/a","Test":"TestA","Output":"--- FAIL: TestA (0.00s)\n"}
{"Action":"fail","Package":"m/a","Test":"TestA"}
{"Action":"output","Package":"m/a","Output":"FAIL\tm/a\t0.1s\n"}
{"Action":"fail","Package":"m/a"}`, "    a_test.go:1: wrong\n--- FAIL: TestA (0.00s)\nFAIL\tm/a\t0.1s\n", true},
		{"a test that never ends", `
{"Action":"output","Package":"m/a","Test":"TestA","Output":"panic: test timed out\n"}
{"Action":"output","Package":"m/a","Output":"FAIL\tm/a\t600s\n"}
{"Action":"fail","Package":"m/a"}`, "panic: test timed out\nFAIL\tm/a\t600s\n", true},
		{"a package that does not build", `
{"Action":"build-output","ImportPath":"m/a","Output":"a.go:1: no\n"}
{"Action":"build-fail","ImportPath":"m/a"}
{"Action":"output","Package":"m/a","Output":"FAIL\tm/a [build failed]\n"}
{"Action":"fail","Package":"m/a"}`, "a.go:1: no\nFAIL\tm/a [build failed]\n", true},
		{"what is no event", "\ngo: no such tool\n", "go: no such tool\n", false},
	} {
		t.Run(c.name, func(t *testing.T) {
			var out strings.Builder
			s := summary{out: &out, said: make(map[string][]string)}
			if err := s.read(strings.NewReader(c.in[1:])); err != nil {
				t.Fatal(err)
			}
			s.finish()
			if out.String() != c.want || s.failed != c.failed {
				t.Errorf("failed is %v, printed is\n%s\nwant %v and\n%s", s.failed, out.String(), c.failed, c.want)
			}
		})
	}
}
