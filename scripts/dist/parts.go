package main

import (
	"cmp"
	"debug/buildinfo"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"time"

	"github.com/CycloneDX/cyclonedx-go"
)

// listParts writes the modules that are linked into a system's programs, as CycloneDX.
func (r *release) listParts(s system) error {
	modules := make(map[string]string) // path and version
	compiler := ""
	for _, p := range programs {
		info, err := buildinfo.ReadFile(filepath.Join(r.bin(s), p+s.exe()))
		if err != nil {
			return err
		}
		compiler = info.GoVersion
		for _, m := range info.Deps {
			if m.Replace == nil { // what takes the place of a module is part of walkeep
				modules[m.Path] = m.Version
			}
		}
	}
	components := []cyclonedx.Component{{
		Type: cyclonedx.ComponentTypePlatform, Name: "go", Version: compiler, BOMRef: "go",
	}}
	for path, version := range modules {
		url := fmt.Sprintf("pkg:golang/%s@%s", path, version)
		components = append(components, cyclonedx.Component{
			Type: cyclonedx.ComponentTypeLibrary, Name: path, Version: version, PackageURL: url, BOMRef: url,
		})
	}
	slices.SortFunc(components, func(a, b cyclonedx.Component) int { return cmp.Compare(a.BOMRef, b.BOMRef) })
	bom := cyclonedx.NewBOM()
	bom.Metadata = &cyclonedx.Metadata{
		Timestamp: r.made.Format(time.RFC3339),
		Component: &cyclonedx.Component{Type: cyclonedx.ComponentTypeApplication, Name: "walkeep", Version: r.version, BOMRef: "walkeep"},
	}
	bom.Components = &components
	f, err := os.Create(filepath.Join(r.out, fmt.Sprintf("walkeep-%s-%s.cdx.json", r.version, s)))
	if err != nil {
		return err
	}
	if err := cyclonedx.NewBOMEncoder(f, cyclonedx.BOMFileFormatJSON).SetPretty(true).Encode(bom); err != nil {
		f.Close()
		return err
	}
	return f.Close()
}
