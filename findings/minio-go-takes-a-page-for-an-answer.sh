#!/usr/bin/env bash
# minio-go v7.4.1: a page in HTML, such as a proxy or a login portal sends, is taken for the answer of an S3 store.
#
# With status 404 a GET of an object fails with the code NoSuchKey, as if the store had answered that there is no such object. With
# status 200 and well-formed, it is an empty listing without an error. Where the page is not well-formed, the listing fails.
#
# Why it matters: absence lets walkeep remove files and end a recovery. So it reads the answers before minio-go does, and lets only
# those through that are an S3 store's (common/storage/s3/transport.go).
#
# Seen on 2026-11-28:
#   get, 404: NoSuchKey
#   list, 200: 0 objects, error <nil>
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
	"strings"

	"github.com/minio/minio-go/v7"
	"github.com/minio/minio-go/v7/pkg/credentials"
)

func main() {
	status := 404
	page := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Content-Type", "text/html")
		w.WriteHeader(status)
		io.WriteString(w, "<html><head><title>Log in</title></head><body><p>Please log in.</p></body></html>")
	}))
	defer page.Close()
	core, err := minio.NewCore(strings.TrimPrefix(page.URL, "http://"), &minio.Options{Creds: credentials.NewStaticV4("key", "secret", ""), Region: "us-east-1"})
	if err != nil {
		panic(err)
	}
	_, _, _, err = core.GetObject(context.Background(), "bucket", "object", minio.GetObjectOptions{})
	fmt.Println("get, 404:", minio.ToErrorResponse(err).Code)
	status = 200
	objects := 0
	err = nil
	for o := range core.ListObjectsIter(context.Background(), "bucket", minio.ListObjectsOptions{}) {
		if err = o.Err; err == nil {
			objects++
		}
	}
	fmt.Printf("list, 200: %d objects, error %v\n", objects, err)
}
GO
expect "get, 404: NoSuchKey
list, 200: 0 objects, error <nil>"
