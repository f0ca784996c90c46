// A job in Go: three items that end in three ways.
package export_tidemill_job_job

import (
	"encoding/json"
	"fmt"
	"strconv"
	"strings"
	"time"

	events "wit_component/tidemill_job_events"
	job "wit_component/tidemill_job_types"
	config "wit_component/wasi_config_store"
	handler "wit_component/wasi_http_outgoing_handler"
	http "wit_component/wasi_http_types"
	keyvalue "wit_component/wasi_keyvalue_store"
	logging "wit_component/wasi_logging_logging"

	wit "go.bytecodealliance.org/pkg/wit/types"
)

const description = `{
	"name": "example-go", "version": "0.1.0",
	"summary": "Three items that end in three ways, in Go.",
	"config": {
		"type": "object",
		"properties": {
			"service": { "type": "string" },
			"fail_times": { "type": "integer", "minimum": 0 },
			"also": { "type": "string" },
			"discover_mistake": { "type": "string" }
		},
		"required": ["service"],
		"additionalProperties": false
	},
	"topics": ["ExampleDone"],
	"capabilities": ["keyvalue"]
}`

type result = wit.Result[job.Outcome, job.Failure]

func Describe() string { return description }

func Discover(_ job.PageRequest) wit.Result[job.Page, job.Failure] {
	if mistake := setting("discover_mistake", ""); mistake != "" {
		makeMistake(mistake)
	}
	var items []job.Found
	for _, key := range strings.Split("good,flaky,bad,"+setting("also", ""), ",") {
		if key != "" {
			items = append(items, job.Found{Key: key})
		}
	}
	return wit.Ok[job.Page, job.Failure](job.Page{Items: items, Next: wit.None[string]()})
}

func Process(item job.Item) result {
	logging.Log(logging.Level_Info, "example", fmt.Sprintf("%s, attempt %d", item.Key, item.Attempt))
	switch item.Key {
	case "good":
		return good(item)
	case "flaky":
		// A failure of the contract is an answer. A panic is a crash, and the host reports its text.
		if times, _ := strconv.Atoi(setting("fail_times", "2")); int(item.Attempt) <= times {
			return transient("too-early", fmt.Sprintf("attempt %d is too early", item.Attempt))
		}
		return resolved(fmt.Sprintf("at attempt %d", item.Attempt))
	case "bad":
		return permanent("never", "this item never works")
	case "clock":
		return clock()
	}
	return makeMistake(item.Key)
}

// good calls a service, counts in the key-value store, and publishes an event.
func good(item job.Item) result {
	status, text, err := get(setting("service", ""))
	if err != nil {
		return transient("http", err.Error())
	}
	bucket := keyvalue.Open("default").Ok()
	count := 0
	if stored := bucket.Get("count").Ok(); stored.IsSome() {
		count, _ = strconv.Atoi(string(stored.Some()))
	}
	count++
	bucket.Set("count", []byte(strconv.Itoa(count)))
	payload, _ := json.Marshal(map[string]int{"count": count})
	if sent := events.Publish("ExampleDone", item.Key, string(payload)); sent.IsErr() {
		return permanent("event", "the event was refused")
	}
	return resolved(fmt.Sprintf("the service answered %d %s", status, text))
}

func clock() result {
	before := time.Now()
	if time.Since(before) < 0 {
		return permanent("clock", "the monotonic clock goes backwards")
	}
	return resolved(fmt.Sprintf("at %d", before.UnixMilli()))
}

func get(url string) (int, string, error) {
	scheme, rest, _ := strings.Cut(url, "://")
	authority, path, _ := strings.Cut(rest, "/")
	request := http.MakeOutgoingRequest(http.MakeFields())
	if scheme == "http" {
		request.SetScheme(wit.Some(http.MakeSchemeHttp()))
	} else {
		request.SetScheme(wit.Some(http.MakeSchemeHttps()))
	}
	request.SetAuthority(wit.Some(authority))
	request.SetPathWithQuery(wit.Some("/" + path))
	sent := handler.Handle(request, wit.None[*http.RequestOptions]())
	if sent.IsErr() {
		return 0, "", fmt.Errorf("the request was not sent: error code %d", sent.Err().Tag())
	}
	future := sent.Ok()
	future.Subscribe().Block()
	answer := future.Get()
	if answer.IsNone() || answer.Some().IsErr() || answer.Some().Ok().IsErr() {
		return 0, "", fmt.Errorf("the service did not answer")
	}
	response := answer.Some().Ok().Ok()
	stream := response.Consume().Ok().Stream().Ok()
	var body []byte
	for {
		chunk := stream.BlockingRead(65536)
		if chunk.IsErr() {
			return int(response.Status()), string(body), nil
		}
		body = append(body, chunk.Ok()...)
	}
}

func setting(key, otherwise string) string {
	answer := config.Get(key)
	if answer.IsErr() || answer.Ok().IsNone() {
		return otherwise
	}
	return answer.Ok().Some()
}

func resolved(note string) result {
	return wit.Ok[job.Outcome, job.Failure](job.MakeOutcomeResolved(wit.Some(note)))
}

func transient(code, message string) result {
	return wit.Err[job.Outcome, job.Failure](job.MakeFailureTransient(job.Error{Code: code, Message: message}))
}

func permanent(code, message string) result {
	return wit.Err[job.Outcome, job.Failure](job.MakeFailurePermanent(job.Error{Code: code, Message: message}))
}
