/** Raw ATen operators, `name` or `name.overload`, that the random calls reach through `ops.aten`. */
export const fuzzOperators: readonly string[] = `
abs acos acosh add.Tensor add.Scalar addbmm addcdiv addcmul addmm addmv addr all all.dim allclose amax amin aminmax
angle any any.dim argmax argmin argsort as_strided asin asinh atan atan2 atanh baddbmm bincount bitwise_and.Tensor
bitwise_not bitwise_or.Tensor bitwise_xor.Tensor bmm broadcast_tensors bucketize.Tensor cat ceil celu channel_shuffle
cholesky_solve chunk clamp clamp_min clone col2im complex constant_pad_nd conv1d conv2d conv3d conv_transpose2d.input
copysign.Tensor cos cosh count_nonzero cross cummax cummin cumprod cumsum deg2rad diag diag_embed diagonal diff dist
div.Tensor div.Tensor_mode dot elu embedding eq.Tensor equal erf erfc erfinv exp expand expm1 fft_fft fft_irfft fft_rfft
flatten.using_ints flip fliplr floor floor_divide fmod.Tensor frac full_like gather gcd ge.Tensor gelu glu
grid_sampler_2d group_norm gt.Tensor hardtanh heaviside hinge_embedding_loss histc huber_loss hypot im2col index.Tensor
index_add index_copy index_fill.int_Scalar index_put index_select inverse isclose isfinite isin.Tensor_Tensor isnan
kthvalue l1_loss layer_norm lcm le.Tensor leaky_relu lerp.Scalar lgamma linalg_cholesky linalg_det linalg_eigh linalg_inv
linalg_lu_factor linalg_matrix_power linalg_norm linalg_qr linalg_solve linalg_svd linear log log10 log1p log2 log_softmax.int logaddexp
logcumsumexp logdet logical_and logical_not logit logsumexp lt.Tensor masked_fill.Scalar masked_scatter masked_select
matmul matrix_exp max max.dim max_pool1d max_pool2d maximum mean mean.dim median median.dim meshgrid min
min.dim mish mm mode movedim.intlist mse_loss mul.Tensor multinomial mv nan_to_num nanmean nansum narrow native_dropout
native_group_norm native_layer_norm ne.Tensor neg nll_loss nonzero norm.Scalar norm.ScalarOpt_dim one_hot ones_like
permute pixel_shuffle pixel_unshuffle polar pow.Tensor_Tensor pow.Tensor_Scalar prelu prod prod.dim_int put
quantile rad2deg reciprocal reflection_pad1d reflection_pad2d relu relu6 remainder.Tensor renorm repeat
repeat_interleave.Tensor replication_pad2d reshape roll rot90 round rsqrt rsub.Tensor scaled_dot_product_attention
scatter.src scatter.value scatter_add scatter_reduce.two searchsorted.Tensor select.int selu sigmoid sign silu sin sinc
sinh slice.Tensor slogdet smooth_l1_loss softmax.int softplus softshrink sort split.Tensor split_with_sizes sqrt square
squeeze.dim stack std.correction std_mean.correction sub.Tensor sum sum.dim_IntList svd t take take_along_dim tan tanh
threshold tile topk trace transpose.int trapezoid.x triangular_solve tril triu trunc unbind.int unflatten.int unfold
unique_dim _unique2 unsqueeze upsample_bicubic2d upsample_bilinear2d upsample_nearest2d var.correction var_mean.correction
vdot view view_as_complex view_as_real where.self xlogy.Tensor zeros_like
add_.Tensor mul_.Tensor div_.Scalar clamp_ fill_.Scalar zero_ copy_ index_fill_.int_Scalar masked_fill_.Scalar
scatter_.value lerp_.Scalar exp_ relu_ put_ index_put_ index_add_ addmm_ baddbmm_ cumsum_ tril_ sort.stable
_foreach_add.Scalar _foreach_norm.Scalar _foreach_mul_.Scalar _foreach_lerp_.Scalar _fused_adamw_
`
  .trim()
  .split(/\s+/);
