// Stands in for CUDA's header of that name: cuda_on_host.h, which comes before everything, has __half already.
