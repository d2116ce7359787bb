"""Pictures of no digit, made from the digits of a batch: the network learns to doubt them."""

import tensorflow as tf

# One image in so many is replaced.
ONE_IN = 16
# Turned or mirrored, 0, 1 and 8 may still be digits.
MADE_FROM = (2, 3, 4, 5, 6, 7, 9)


def with_no_digits(
    images: tf.Tensor, targets: tf.Tensor, key: tf.Tensor
) -> tuple[tf.Tensor, tf.Tensor]:
    """Replace the first images of a batch, which is in random order, by pictures of no digit.

    Each is a digit turned by a quarter, half of one beside its mirror image, quarters of four put
    together, or one over another that is turned. Their targets are even.

    Args:
        images: float32, shape (b, 28, 28).
        targets: float32, shape (b, 10), one-hot.
        key: int64, shape (2,).
    """
    usable = tf.where(tf.reduce_sum(tf.gather(targets, MADE_FROM, axis=1), axis=1) > 0)[:, 0]
    count = tf.minimum(tf.shape(images)[0] // ONE_IN, tf.size(usable) // 4)
    sources = tf.reshape(tf.gather(images, usable[: 4 * count]), [4, count, *images.shape[1:]])
    made = _made(*tf.unstack(sources), *tf.unstack(tf.random.split(key, 2)))
    even = tf.fill([count, 10], 0.1)
    return tf.concat([made, images[count:]], 0), tf.concat([even, targets[count:]], 0)


def _made(
    a: tf.Tensor, b: tf.Tensor, c: tf.Tensor, d: tf.Tensor, kinds: tf.Tensor, sides: tf.Tensor
) -> tf.Tensor:
    """One picture of no digit from each four digits, all of shape (n, 28, 28)."""
    count = tf.shape(a)[0]
    side = tf.random.stateless_uniform([count, 1, 1], sides) < 0.5
    across = tf.transpose(a, [0, 2, 1])
    turned = tf.where(side, across[:, ::-1], across[:, :, ::-1])
    half = tf.where(side, a, across)[:, :, :14]
    mirrored = tf.concat([half, half[:, :, ::-1]], 2)
    pieces = tf.concat(
        [
            tf.concat([across[:, :14, :14], b[:, :14, 13::-1]], 2),
            tf.concat([c[:, 14:, :13:-1], d[:, 13::-1, 14:]], 2),
        ],
        1,
    )
    over = tf.maximum(turned, b)
    kind = tf.random.stateless_uniform([count], kinds, 0, 4, tf.int32)
    return tf.gather(tf.stack([turned, mirrored, pieces, over], 1), kind, batch_dims=1)
