// A net/http server, its clients, goroutines and garbage in one process: see everything.c.
package main

import (
	"bufio"
	"bytes"
	"compress/gzip"
	"crypto/sha256"
	"encoding/json"
	"fmt"
	"html/template"
	"io"
	"net"
	"net/http"
	"os"
	"regexp"
	"runtime"
	"runtime/debug"
	"sort"
	"strings"
	"sync"
	"sync/atomic"
	"time"
)

type item struct {
	Number int
	Name   string
	Next   *item `json:",omitempty"`
}

var (
	page  = template.Must(template.New("page").Parse("<h1>{{.Name}}</h1>{{range .Numbers}}<p>{{.}}</p>{{end}}\n"))
	words = regexp.MustCompile(`[a-z]+\d`)
)

func handle(w http.ResponseWriter, r *http.Request) {
	var request item

	if err := json.NewDecoder(r.Body).Decode(&request); err != nil {
		http.Error(w, err.Error(), http.StatusBadRequest)
		return
	}
	switch r.URL.Path {
	case "/page":
		numbers := make([]int, request.Number%50)
		for i := range numbers {
			numbers[i] = i * request.Number
		}
		page.Execute(w, map[string]any{"Name": request.Name, "Numbers": numbers})
	case "/zipped":
		w.Header().Set("Content-Encoding", "gzip")
		zip := gzip.NewWriter(w)
		fmt.Fprint(zip, words.ReplaceAllString(strings.Repeat("word1 word2 ", 100+request.Number%100), "<$0>"))
		zip.Close()
	case "/deep":
		fmt.Fprint(w, deep(2000))
	case "/panic":
		panic(http.ErrAbortHandler)
	default:
		json.NewEncoder(w).Encode(item{request.Number + 1, strings.ToUpper(request.Name), &request})
	}
}

func deep(n int) int {
	var pad [16]int

	if n == 0 {
		return 0
	}
	pad[n%16] = n
	return deep(n-1) + pad[n%16] - n + 1
}

// Calls nothing, so it is preempted by signals only, at any instruction.
//
//go:noinline
func spin(n int) uint64 {
	var a, b uint64 = 1, 2

	for i := 0; i < n; i++ {
		a = a*6364136223846793005 + uint64(i)
		if a>>60 > 7 {
			b ^= a << 3
		} else {
			b += a >> 5
		}
	}
	return a ^ b
}

func ask(client *http.Client, base string, n int) string {
	paths := []string{"/page", "/zipped", "/deep", "/", "/bad", "/panic"}
	path := paths[n%len(paths)]
	body, _ := json.Marshal(item{n, fmt.Sprint("name ", n), nil})
	if path == "/bad" {
		body = body[1:]
	}
	response, err := client.Post(base+path, "application/json", bytes.NewReader(body))
	if err != nil {
		return "failed"
	}
	defer response.Body.Close()
	text, err := io.ReadAll(response.Body)
	return fmt.Sprintf("%d %x %v", response.StatusCode, sha256.Sum256(text), err)
}

func main() {
	const clients, requests = 8, 60
	input := bufio.NewReader(os.Stdin)
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		fmt.Println("skip:", err)
		os.Exit(77)
	}
	server := &http.Server{Handler: http.HandlerFunc(handle), ReadTimeout: time.Minute}
	go server.Serve(listener)
	debug.SetGCPercent(20)
	fmt.Println("ready")
	input.ReadString('\n')

	var group sync.WaitGroup
	answers := make([]string, clients*requests)
	stop := make(chan bool)
	go func() {
		for {
			select {
			case <-stop:
				return
			case <-time.After(10 * time.Millisecond):
				runtime.GC()
			}
		}
	}()
	var wrong atomic.Int64
	expected := spin(1000000)
	for c := 0; c < 2; c++ {
		go func() {
			for spin(1000000) == expected {
				select {
				case <-stop:
					return
				default:
				}
			}
			wrong.Add(1)
		}()
	}
	for c := 0; c < clients; c++ {
		group.Add(1)
		go func(c int) {
			defer group.Done()
			client := &http.Client{Transport: &http.Transport{}}
			for i := 0; i < requests; i++ {
				n := c*requests + i
				answers[n] = fmt.Sprint(n, " ", ask(client, "http://"+listener.Addr().String(), n))
			}
			client.CloseIdleConnections()
		}(c)
	}
	group.Wait()
	close(stop)
	sort.Strings(answers)
	fmt.Println(wrong.Load(), "wrong")
	fmt.Println(strings.Join(answers, "\n"))
	fmt.Println("done")
	input.ReadString('\n')
}
