// The one function that the benchmark's tests take from the package of this name, with its meaning: equal by value.
package assert

import (
	"bytes"
	"reflect"
	"testing"
)

type Assertions struct{ t *testing.T }

func New(t *testing.T) *Assertions { return &Assertions{t} }

func (a *Assertions) Equal(expected, actual interface{}, words ...interface{}) bool {
	a.t.Helper()
	one, isBytes := expected.([]byte)
	other, areBytes := actual.([]byte)
	equal := reflect.DeepEqual(expected, actual)
	if isBytes && areBytes && one != nil && other != nil {
		equal = bytes.Equal(one, other)
	}
	if !equal {
		a.t.Errorf("expected %v, got %v %v", expected, actual, words)
	}
	return equal
}
