# Fields are described in runner.pyx.

cdef class Task:
    cdef public object op
    cdef readonly Runner runner
    cdef public object on_done
    cdef public object context
    cdef public object waiting
    cdef public object effect
    cdef public object cancelling
    cdef public bint closing
    cdef readonly bint done
    cdef public object result
    cdef public object error
    cdef public Task joiner


cdef class Runner:
    cdef public bint inline
    cdef public object queue
    cdef readonly object ready
    cdef bint _delivering
    cdef readonly bint telling
    cdef list _ended

    cdef int _step(self, Task task, object value, object error) except -1
    cdef bint _perform(self, Task task, object effect) except -1
    cdef int _cancel(self, Task task, BaseException error) except -1
    cdef int _throw_cancel(self, Task task) except -1
    cdef int _finish(self, Task task, object result, object error) except -1
    cdef object _usable_queue(self)
    cdef object _submit(self, Task task, object effect, bint inline)
    cdef object _submit_form(self, Task task, object effect)
    cdef bint _await_outcome(self, Task task, object effect) except -1
    cdef bint _await_body(self, Task task, object effect) except -1
    cdef int _attach(self, Task task, object transfer, object queue, object reader) except -1
    cdef int _tell(self) except -1
    cdef int _deliver(self, object transfer) except -1
