// The few types of Microsoft.ML.OnnxRuntime that OnnxInference.cs uses, where NuGet is out of reach. Its network is a file:
// whatever goes in, what stands in STUB_OUTPUT comes out.
using System;
using System.Collections.Generic;
using System.IO;
using System.Linq;
using Microsoft.ML.OnnxRuntime.Tensors;

namespace Microsoft.ML.OnnxRuntime.Tensors
{
    public class Tensor<T>
    {
        public T[] Values;
    }

    public class DenseTensor<T> : Tensor<T>
    {
        public DenseTensor(T[] memory, int[] dimensions, bool reverseStride = false)
        {
            if (memory.Length != dimensions.Aggregate(1, (product, side) => product * side))
                throw new ArgumentException("the shape does not fit");
            Values = memory;
        }
    }
}

namespace Microsoft.ML.OnnxRuntime
{
    public class NamedOnnxValue
    {
        public string Name;
        public object Value;

        public static NamedOnnxValue CreateFromTensor<T>(string name, Tensor<T> value)
        {
            return new NamedOnnxValue { Name = name, Value = value };
        }

        public IEnumerable<T> AsEnumerable<T>()
        {
            return ((Tensor<T>)Value).Values;
        }
    }

    public class DisposableNamedOnnxValue : NamedOnnxValue, IDisposable
    {
        public void Dispose() { }
    }

    public interface IDisposableReadOnlyCollection<T> : IReadOnlyCollection<T>, IDisposable { }

    public sealed class InferenceSession : IDisposable
    {
        private sealed class Results : List<DisposableNamedOnnxValue>, IDisposableReadOnlyCollection<DisposableNamedOnnxValue>
        {
            public void Dispose() { }
        }

        public InferenceSession(string path)
        {
            if (!File.Exists(path)) throw new FileNotFoundException(path);
        }

        public IDisposableReadOnlyCollection<DisposableNamedOnnxValue> Run(
            IReadOnlyCollection<NamedOnnxValue> inputs, IReadOnlyCollection<string> outputNames)
        {
            if (inputs.Single().Name != "images" || outputNames.Single() != "output0")
                throw new ArgumentException("there are only images and output0");
            byte[] bytes = File.ReadAllBytes(Environment.GetEnvironmentVariable("STUB_OUTPUT"));
            var values = new float[bytes.Length / 4];
            Buffer.BlockCopy(bytes, 0, values, 0, bytes.Length);
            var tensor = new DenseTensor<float>(values, new[] { values.Length });
            return new Results { new DisposableNamedOnnxValue { Name = "output0", Value = tensor } };
        }

        public void Dispose() { }
    }
}
