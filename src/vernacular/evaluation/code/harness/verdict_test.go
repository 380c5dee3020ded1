// Runs the tests. The token comes by standard input, and goes out on file descriptor 3 after the last of them.
package program

import (
	"io"
	"os"
	"testing"
)

var token = taken()

func taken() []byte {
	token := make([]byte, 64)
	if _, err := io.ReadFull(os.Stdin, token); err != nil {
		os.Exit(70)
	}
	os.Stdin.Close()
	return token
}

func TestMain(m *testing.M) {
	code := m.Run()
	if code == 0 {
		os.NewFile(3, "verdict").Write(token)
	}
	os.Exit(code)
}
