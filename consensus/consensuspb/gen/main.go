// SPDX-License-Identifier: AGPL-3.0-only

// Command gen writes the Go code of the .proto files in the working directory beside them, with the compiler and the generator
// that go.mod pins: no protoc is needed. `make generate` runs it, and `make check` fails if that changes anything. It is no part
// of the node, and writes only *.pb.go, whose first lines are those of the .proto file.
package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"

	"github.com/bufbuild/protocompile"
	"github.com/bufbuild/protocompile/linker"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protodesc"
	"google.golang.org/protobuf/reflect/protoreflect"
	"google.golang.org/protobuf/types/descriptorpb"
	"google.golang.org/protobuf/types/pluginpb"
)

func main() {
	if err := run(context.Background()); err != nil {
		fmt.Fprintln(os.Stderr, "gen:", err)
		os.Exit(1)
	}
}

func run(ctx context.Context) error {
	files, err := filepath.Glob("*.proto")
	if err != nil {
		return err
	}
	if len(files) == 0 {
		return errors.New("no .proto file in the working directory")
	}
	request, err := compile(ctx, files)
	if err != nil {
		return err
	}
	generated, err := generate(ctx, request)
	if err != nil {
		return err
	}
	for _, f := range generated {
		name := filepath.Base(f.GetName())
		if err := os.WriteFile(name, []byte(f.GetContent()), 0o666); err != nil {
			return err
		}
	}
	return nil
}

// compile parses and links the files, in the order of their names, as protoc would hand them to its plugin.
func compile(ctx context.Context, files []string) (*pluginpb.CodeGeneratorRequest, error) {
	compiler := protocompile.Compiler{
		Resolver:       &protocompile.SourceResolver{ImportPaths: []string{"."}},
		SourceInfoMode: protocompile.SourceInfoStandard,
	}
	linked, err := compiler.Compile(ctx, files...)
	if err != nil {
		return nil, err
	}
	parameter := "paths=source_relative"
	request := &pluginpb.CodeGeneratorRequest{FileToGenerate: files, Parameter: &parameter}
	added := map[string]bool{}
	var add func(path string)
	add = func(path string) {
		if added[path] {
			return
		}
		added[path] = true
		file := linked.FindFileByPath(path)
		imports := file.Imports()
		for i := range imports.Len() {
			add(imports.Get(i).Path())
		}
		request.ProtoFile = append(request.ProtoFile, descriptor(file))
	}
	for _, f := range files {
		add(f)
	}
	return request, nil
}

func descriptor(file protoreflect.FileDescriptor) *descriptorpb.FileDescriptorProto {
	if compiled, ok := file.(linker.Result); ok {
		return compiled.FileDescriptorProto() // with the comments
	}
	return protodesc.ToFileDescriptorProto(file)
}

// generate runs the pinned generator as the plugin that it is.
func generate(ctx context.Context, request *pluginpb.CodeGeneratorRequest) ([]*pluginpb.CodeGeneratorResponse_File, error) {
	in, err := proto.MarshalOptions{Deterministic: true}.Marshal(request)
	if err != nil {
		return nil, err
	}
	plugin := exec.CommandContext(ctx, "go", "tool", "protoc-gen-go")
	plugin.Stdin, plugin.Stderr = bytes.NewReader(in), os.Stderr
	out, err := plugin.Output()
	if err != nil {
		return nil, fmt.Errorf("protoc-gen-go: %w", err)
	}
	var response pluginpb.CodeGeneratorResponse
	if err := proto.Unmarshal(out, &response); err != nil {
		return nil, fmt.Errorf("answer of protoc-gen-go: %w", err)
	}
	if response.Error != nil {
		return nil, fmt.Errorf("protoc-gen-go: %s", response.GetError())
	}
	return response.File, nil
}
