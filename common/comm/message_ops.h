/* message_ops: send and recv as differentiable operations, from one stage of a pipeline to another.
 *
 *                       input -> output                forward       backward
 *   op_send, op_recv    Private -> Private, there      send, recv    recv, send of the gradient
 *
 * None of them waits. What is received is waited for where it is first read (tape_await, which every op calls for its
 * inputs), a gradient where the backward of the op below reads it; in between the device does other work. So two devices
 * that send each other large tensors at the same moment do not wait for each other, and by the model clock a message and
 * the work meanwhile take the longer of the two times, not their sum.
 *
 * What is sent is kept, whoever drops it: until its gradient has come back, which says that it arrived; otherwise, and
 * for gradients always, until tape_finish or tape_reset. Messages from one device to another arrive in the order in which
 * they were sent: both sides name them in the same order, forward and backward. */
#ifndef MESSAGE_OPS_H
#define MESSAGE_OPS_H

#include "common/comm/mesh.h"
#include "common/tensor/tape.h"

/* x (..) Private goes to the device with coordinate `to`, which calls op_recv. x is of this tape, or outlives it, and
 * does not change until the message is done. The result (1), double, is 0 and Partial: what this stage adds to the loss.
 * tape_backward from it, with any seed, receives the gradient of x. */
Tensor *op_send(Tape *tape, const Mesh *mesh, MeshAxis along, Tensor *x, int to);
/* Of what op_send returned: begins to receive the gradient of x ahead of the backward, which then takes this one. So a
 * program says itself in which order it asks a device for gradients and for other messages, and can wait (tape_await)
 * until the backward has what it needs. NULL: nobody sends one, the tape does not record, or x is constant. */
Tensor *message_expect_gradient(Tape *tape, Tensor *sent);
/* The x of the device with coordinate `from`, of which `like` has the name, shape, placements and whether it is
 * constant. Its backward sends the gradient to where it came from. */
Tensor *op_recv(Tape *tape, const Mesh *mesh, MeshAxis along, int from, const Tensor *like);

#endif
