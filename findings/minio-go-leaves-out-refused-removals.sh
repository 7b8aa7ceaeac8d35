#!/usr/bin/env bash
# minio-go v7.4.1: RemoveObjects reports nothing of an object whose removal the store has refused with the code InvalidArgument.
#
# It is meant for versions that are not there. What the store refuses for another reason with this code is neither an error nor, with
# RemoveObjectsWithIter, a result.
#
# Why it matters: a removal is reported as done only where the store has confirmed it. So walkeep compares the results with what it
# has asked for (common/storage/s3/s3.go).
#
# Seen on 2026-11-28:
#   RemoveObjects: 0 errors for 2 objects
#   RemoveObjectsWithIter: [removed <nil>]
#
# Needs Go, which downloads minio-go.
set -euo pipefail
. "$(dirname "$0")/lib/go.bash"
program github.com/minio/minio-go/v7 v7.4.1 <<'GO'
package main

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"

	"github.com/minio/minio-go/v7"
	"github.com/minio/minio-go/v7/pkg/credentials"
)

func main() {
	store := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		io.WriteString(w, `<DeleteResult><Deleted><Key>removed</Key></Deleted>`+
			`<Error><Key>refused</Key><Code>InvalidArgument</Code><Message>It is under legal hold.</Message></Error></DeleteResult>`)
	}))
	defer store.Close()
	core, err := minio.NewCore(strings.TrimPrefix(store.URL, "http://"), &minio.Options{Creds: credentials.NewStaticV4("key", "secret", ""), Region: "us-east-1"})
	if err != nil {
		panic(err)
	}
	all := []minio.ObjectInfo{{Key: "removed"}, {Key: "refused"}}
	objects := make(chan minio.ObjectInfo, len(all))
	for _, o := range all {
		objects <- o
	}
	close(objects)
	errs := 0
	for range core.RemoveObjects(context.Background(), "bucket", objects, minio.RemoveObjectsOptions{}) {
		errs++
	}
	fmt.Printf("RemoveObjects: %d errors for %d objects\n", errs, len(all))
	results, err := core.RemoveObjectsWithIter(context.Background(), "bucket", slices.Values(all), minio.RemoveObjectsOptions{})
	if err != nil {
		panic(err)
	}
	var got []any
	for r := range results {
		got = append(got, r.ObjectName, r.Err)
	}
	fmt.Println("RemoveObjectsWithIter:", got)
}
GO
expect "RemoveObjects: 0 errors for 2 objects
RemoveObjectsWithIter: [removed <nil>]"
