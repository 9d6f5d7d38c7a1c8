// Command hello is the small HTTP service of the examples: it says which
// version it is, so that a rollout can be watched from outside.
package main

import (
	"context"
	"encoding/json"
	"errors"
	"log"
	"net/http"
	"os"
	"os/signal"
	"syscall"
	"time"
)

// version is set by the build script.
var version = "dev"

func main() {
	log.SetFlags(0)

	address := os.Getenv("HELLO_LISTEN")
	if address == "" {
		address = ":8080"
	}

	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	err := serve(ctx, address)
	stop()
	if err != nil {
		log.Fatal(err)
	}
}

// serve answers on address until ctx ends; requests under way may then finish.
func serve(ctx context.Context, address string) error {
	hostname, err := os.Hostname()
	if err != nil {
		return err
	}
	greeting := os.Getenv("HELLO_GREETING")

	mux := http.NewServeMux()
	mux.HandleFunc("GET /health", func(w http.ResponseWriter, _ *http.Request) {
		w.WriteHeader(http.StatusOK)
	})
	mux.HandleFunc("GET /{$}", func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "application/json")
		answer := map[string]string{"greeting": greeting, "version": version, "host": hostname}
		if err := json.NewEncoder(w).Encode(answer); err != nil {
			log.Printf("answer a request: %v", err)
		}
	})

	server := &http.Server{Addr: address, Handler: mux, ReadHeaderTimeout: 5 * time.Second}
	drained := make(chan error, 1)
	go func() {
		<-ctx.Done()
		last, cancel := context.WithTimeout(context.WithoutCancel(ctx), 10*time.Second)
		defer cancel()
		drained <- server.Shutdown(last)
	}()

	log.Printf("hello %s listens on %s", version, address)
	if err := server.ListenAndServe(); !errors.Is(err, http.ErrServerClosed) {
		return err
	}
	return <-drained
}
