#include "init.h"

static void give(struct call *call)
{
	if (call->started_us == 0) {
		log_start(call);
		worker_begin(call);
		extensions_invoke(call);
	}
	runtime_give(call);
}

static void perform(struct effect effect)
{
	struct call *call = effect.call;
	const char *error_type = worker.phase == FAILED ? worker.fault_type : NULL;
	switch (effect.kind) {
	case NOTHING:
		break;
	case LOG_EXTENSIONS:
		extensions_say(error_type);
		break;
	case LOG_INIT_END:
		log_init_end(error_type);
		break;
	case LOG_END:
		log_end(call);
		break;
	case ACCEPT_ANSWER:
		// The caller waits, and the runtime does not.
		agent_tell();
		runtime_accept(call);
		break;
	case REFUSE_ANSWER:
		runtime_refuse(call);
		break;
	case RESUME_ANSWER:
		http_resume(call->answers);
		break;
	case FREE_CALL:
		connections_let_go(call);
		call_free(call);
		break;
	case TELL_SHUTDOWN:
		process_tell_extensions();
		break;
	case END_FOR_RESTART:
		process_restart();
		break;
	case END_FOR_GOOD:
		process_wind_down(worker.stop_grace_ms);
		break;
	case START_AGAIN:
		process_start_again();
		break;
	case GIVE_CALL:
		give(call);
	}
}

bool effects_run(void)
{
	for (bool some = false;; some = true) {
		http_note_ends();
		process_start_runtime();
		struct effect effect = next_effect(connections_waiting(), extensions_late());
		if (effect.kind == NOTHING)
			return some;
		perform(effect);
	}
}
