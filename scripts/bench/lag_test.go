//go:build linux

package main

import (
	"slices"
	"testing"
)

func TestLags(t *testing.T) {
	for name, c := range map[string]struct {
		seen []sight
		want []float64
	}{
		"in step":  {[]sight{{0, 10, 10}, {50, 20, 20}}, []float64{0, 0}},
		"half":     {[]sight{{0, 100, 100}, {50, 200, 150}}, []float64{0, 25}},
		"stands":   {[]sight{{0, 100, 100}, {50, 200, 100}, {100, 300, 100}, {150, 300, 300}}, []float64{0, 50, 100, 0}},
		"behind":   {[]sight{{0, 100, 50}, {50, 100, 50}, {100, 200, 100}}, []float64{0, 50, 50}},
		"one step": {[]sight{{0, 0, 0}, {50, 100, 0}, {100, 200, 100}, {150, 300, 200}}, []float64{0, 50, 50, 50}},
	} {
		if got := lags(c.seen); !slices.Equal(got, c.want) {
			t.Errorf("%s: got %v, want %v", name, got, c.want)
		}
	}
}
