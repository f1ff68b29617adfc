;; Counts the bytes, lines and words of a text. A text without a single byte is `empty_input`.
;; The hooks and the host's calls are those of tasklet-profile-v0: docs/reference/tasklet-abi.md of grafos.
(module
  (import "grafos_tasklet_v0" "buffer_read" (func $buffer_read (param i32 i32 i32 i32) (result i32)))
  (import "grafos_tasklet_v0" "response_write" (func $response_write (param i32 i32) (result i32)))
  (import "grafos_tasklet_v0" "log_write" (func $log_write (param i32 i32) (result i32)))
  (import "grafos_tasklet_v0" "fail" (func $fail (param i32 i32) (result i32)))

  ;; One page: pieces of the input up to 4096, then the texts, and from 8192 on the response as it grows.
  (memory (export "memory") 1)
  (data (i32.const 4096) "{\"bytes\":")
  (data (i32.const 4112) ",\"lines\":")
  (data (i32.const 4128) ",\"words\":")
  (data (i32.const 4144) "}")
  (data (i32.const 4160) "counted")
  (data (i32.const 4176) "empty_input")
  (data (i32.const 4192) "input_unreadable")

  (global $bytes (mut i32) (i32.const 0))
  (global $lines (mut i32) (i32.const 0))
  (global $words (mut i32) (i32.const 0))
  (global $in_word (mut i32) (i32.const 0))
  (global $end (mut i32) (i32.const 8192)) ;; of the response

  (func (export "_grafos_tasklet_init") (param $context i32) (param $length i32))
  (func (export "_grafos_tasklet_finalize"))

  (func (export "_grafos_tasklet_run") (param $input i32) (param $length i32) (result i32)
    (local $count i32)
    (if (i32.eqz (local.get $length))
      (then (return (call $failed (i32.const 4176) (i32.const 11)))))
    (loop $pieces
      (local.set $count (call $buffer_read (local.get $input) (global.get $bytes) (i32.const 0) (i32.const 4096)))
      (if (i32.le_s (local.get $count) (i32.const 0))
        (then (return (call $failed (i32.const 4192) (i32.const 16)))))
      (call $count (local.get $count))
      (br_if $pieces (i32.lt_u (global.get $bytes) (local.get $length))))

    (call $put_text (i32.const 4096) (i32.const 9))
    (call $put_number (global.get $bytes))
    (call $put_text (i32.const 4112) (i32.const 9))
    (call $put_number (global.get $lines))
    (call $put_text (i32.const 4128) (i32.const 9))
    (call $put_number (global.get $words))
    (call $put_text (i32.const 4144) (i32.const 1))
    (drop (call $log_write (i32.const 4160) (i32.const 7)))
    ;; 0 when the response was taken, else 1
    (i32.lt_s
      (call $response_write (i32.const 8192) (i32.sub (global.get $end) (i32.const 8192)))
      (i32.const 0)))

  ;; Says why, and answers what the run then returns.
  (func $failed (param $text i32) (param $length i32) (result i32)
    (drop (call $fail (local.get $text) (local.get $length)))
    (i32.const 1))

  ;; Counts the first bytes of memory, which are a piece of the input. Spaces, line ends and other control bytes
  ;; separate words.
  (func $count (param $length i32)
    (local $at i32) (local $byte i32) (local $blank i32)
    (loop $next
      (local.set $byte (i32.load8_u (local.get $at)))
      (local.set $blank (i32.le_u (local.get $byte) (i32.const 32)))
      (global.set $lines (i32.add (global.get $lines) (i32.eq (local.get $byte) (i32.const 10))))
      (global.set $words
        (i32.add (global.get $words) (i32.eqz (i32.or (local.get $blank) (global.get $in_word)))))
      (global.set $in_word (i32.eqz (local.get $blank)))
      (local.set $at (i32.add (local.get $at) (i32.const 1)))
      (br_if $next (i32.lt_u (local.get $at) (local.get $length))))
    (global.set $bytes (i32.add (global.get $bytes) (local.get $length))))

  (func $put_text (param $text i32) (param $length i32)
    (memory.copy (global.get $end) (local.get $text) (local.get $length))
    (global.set $end (i32.add (global.get $end) (local.get $length))))

  (func $put_number (param $number i32)
    (if (i32.ge_u (local.get $number) (i32.const 10))
      (then (call $put_number (i32.div_u (local.get $number) (i32.const 10)))))
    (i32.store8 (global.get $end) (i32.add (i32.const 48) (i32.rem_u (local.get $number) (i32.const 10))))
    (global.set $end (i32.add (global.get $end) (i32.const 1)))))
