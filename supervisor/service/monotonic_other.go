//go:build !linux

package service

func monotonic() string { return "" }
