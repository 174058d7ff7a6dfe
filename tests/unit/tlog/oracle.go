// Answers, with the Go project's own note and tlog packages, what test_oracles.py asks.
package main

import (
	"encoding/json"
	"os"

	"golang.org/x/mod/sumdb/note"
	"golang.org/x/mod/sumdb/tlog"
)

type hashes [][]byte

type questions struct {
	Entries   [][]byte
	Roots     hashes
	Inclusion []struct {
		Index, Size int64
		Proof       hashes
	}
	Consistency []struct {
		Old, New int64
		Proof    hashes
	}
	Keys  []string
	Notes [][]byte
	Texts []string
	Seed  string
}

type proved struct {
	Holds bool
	Proof []tlog.Hash
}

type opened struct {
	Error string
	Text  string
	Names []string
}

type answers struct {
	Roots       []tlog.Hash
	Inclusion   []proved
	Consistency []proved
	Notes       []opened
	Signed      [][]byte
}

func must[T any](value T, err error) T {
	if err != nil {
		panic(err)
	}
	return value
}

func toHash(data []byte) (hash tlog.Hash) {
	if len(data) != len(hash) {
		panic("not 32 bytes")
	}
	copy(hash[:], data)
	return hash
}

func toHashes(list hashes) (found []tlog.Hash) {
	for _, data := range list {
		found = append(found, toHash(data))
	}
	return found
}

func main() {
	var asked questions
	if err := json.NewDecoder(os.Stdin).Decode(&asked); err != nil {
		panic(err)
	}
	var told answers

	var stored []tlog.Hash
	reader := tlog.HashReaderFunc(func(indexes []int64) (found []tlog.Hash, err error) {
		for _, index := range indexes {
			found = append(found, stored[index])
		}
		return found, nil
	})
	told.Roots = append(told.Roots, must(tlog.TreeHash(0, reader)))
	for index, entry := range asked.Entries {
		stored = append(stored, must(tlog.StoredHashes(int64(index), entry, reader))...)
		told.Roots = append(told.Roots, must(tlog.TreeHash(int64(index)+1, reader)))
	}

	for _, ask := range asked.Inclusion {
		leaf := tlog.RecordHash(asked.Entries[ask.Index])
		root := toHash(asked.Roots[ask.Size])
		err := tlog.CheckRecord(toHashes(ask.Proof), ask.Size, root, ask.Index, leaf)
		proof := must(tlog.ProveRecord(ask.Size, ask.Index, reader))
		told.Inclusion = append(told.Inclusion, proved{err == nil, proof})
	}
	for _, ask := range asked.Consistency {
		before, after := toHash(asked.Roots[ask.Old]), toHash(asked.Roots[ask.New])
		err := tlog.CheckTree(toHashes(ask.Proof), ask.New, after, ask.Old, before)
		proof := must(tlog.ProveTree(ask.New, ask.Old, reader))
		told.Consistency = append(told.Consistency, proved{err == nil, proof})
	}

	var verifiers []note.Verifier
	for _, key := range asked.Keys {
		verifiers = append(verifiers, must(note.NewVerifier(key)))
	}
	for _, data := range asked.Notes {
		found, err := note.Open(data, note.VerifierList(verifiers...))
		if err != nil {
			told.Notes = append(told.Notes, opened{Error: err.Error()})
			continue
		}
		var names []string
		for _, signature := range found.Sigs {
			names = append(names, signature.Name)
		}
		told.Notes = append(told.Notes, opened{Text: found.Text, Names: names})
	}
	for _, text := range asked.Texts {
		signer := must(note.NewSigner(asked.Seed))
		told.Signed = append(told.Signed, must(note.Sign(&note.Note{Text: text}, signer)))
	}
	if err := json.NewEncoder(os.Stdout).Encode(told); err != nil {
		panic(err)
	}
}
