#!/usr/bin/env bash
# minio-go v7.4.1: a listing whose context ends between two pages ends there, without an error.
#
# ListObjectsIter gives what it has and stops, as after the last page. The same holds if the context has ended before: no object, no error.
#
# Why it matters: a part of a listing must not look like all of it, or objects count as absent. So walkeep asks the context after each
# listing (common/storage/s3/s3.go).
#
# Seen on 2026-11-28:
#   1 of 2 objects, error <nil>
#   0 of 2 objects, error <nil>
#
# Needs Go, which downloads minio-go.
set -euo pipefail
. "$(dirname "$0")/lib/go.bash"
program github.com/minio/minio-go/v7 v7.4.1 <<'GO'
package main

import (
	"context"
	"fmt"
	"net/http"
	"net/http/httptest"
	"strings"

	"github.com/minio/minio-go/v7"
	"github.com/minio/minio-go/v7/pkg/credentials"
)

func main() {
	// A store with two objects that gives one on each page.
	store := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		key, more := "a", true
		if r.URL.Query().Get("continuation-token") != "" {
			key, more = "b", false
		}
		fmt.Fprintf(w, `<ListBucketResult><Name>bucket</Name><KeyCount>1</KeyCount><IsTruncated>%v</IsTruncated><NextContinuationToken>next</NextContinuationToken>`+
			`<Contents><Key>%s</Key><Size>0</Size><ETag>"x"</ETag><LastModified>2026-11-28T00:00:00.000Z</LastModified></Contents></ListBucketResult>`, more, key)
	}))
	defer store.Close()
	core, err := minio.NewCore(strings.TrimPrefix(store.URL, "http://"), &minio.Options{Creds: credentials.NewStaticV4("key", "secret", ""), Region: "us-east-1"})
	if err != nil {
		panic(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	for range 2 {
		objects := 0
		var err error
		for o := range core.ListObjectsIter(ctx, "bucket", minio.ListObjectsOptions{Recursive: true}) {
			if err = o.Err; err == nil {
				objects++
			}
			cancel()
		}
		fmt.Printf("%d of 2 objects, error %v\n", objects, err)
	}
}
GO
expect "1 of 2 objects, error <nil>
0 of 2 objects, error <nil>"
